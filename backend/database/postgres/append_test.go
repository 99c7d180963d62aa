package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// seen is put that also counts the calls of its function, and returns the version that each has seen.
func seen(t *testing.T, db *database.DB, key string, fn func(tx *database.Tx, current int64) error) (versions []int64, err error) {
	t.Helper()
	return versions, db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load(key); err != nil {
			return err
		}
		head, err := tx.Head(key)
		if err != nil {
			return err
		}
		current := head.Current(tx.Now)
		versions = append(versions, current)
		return fn(tx, current)
	})
}

// TestAnotherWasFirst: what was staged upon a state that is not the last any more is not written, and a
// refusal that relies on such a state is not answered.
func TestAnotherWasFirst(t *testing.T) {
	url := postgrestest.Database(t)
	db, other := open(t, url), open(t, url)
	appendOne := func(tx *database.Tx, _ int64) error {
		tx.Append(kv.Entry{Key: "k", Value: []byte("1"), Time: tx.Now, Operation: kv.OpPut})
		return nil
	}
	refuse := func(*database.Tx, int64) error { return kv.ErrPreconditionFailed }
	nothing := func(*database.Tx, int64) error { return nil }
	for i, step := range []struct {
		db   *database.DB
		fn   func(*database.Tx, int64) error
		want []int64
	}{
		{db, appendOne, []int64{0}},
		{db, appendOne, []int64{1}},
		{other, appendOne, []int64{2}},
		{db, appendOne, []int64{2, 3}},
		{db, nothing, []int64{4}},
		{other, appendOne, []int64{3, 4}},
		{db, nothing, []int64{4, 5}},
		{db, refuse, []int64{5}},
		{other, appendOne, []int64{5}},
		{db, refuse, []int64{6}}, // its head is read anew, after the other commit
	} {
		got, err := seen(t, step.db, "k", step.fn)
		// On a busy machine the time of a step may be too old at its end, and it is run once more.
		if diff := cmp.Diff(step.want, slices.Compact(got)); diff != "" || err != nil && !errors.Is(err, kv.ErrPreconditionFailed) {
			t.Errorf("step %d: %s, %v", i, diff, err)
		}
	}
	if n := db.Chain().Conflicts; n < 3 {
		t.Errorf("%d conflicts, want 3 at least", n)
	}
	wantChain(t, connect(t, url))
}

// TestEndsMeanwhile: a key that ends after a write has looked at it, and before the commit, has ended for
// the write too.
func TestEndsMeanwhile(t *testing.T) {
	url := postgrestest.Database(t)
	db := open(t, url)
	var ends kv.Timestamp
	_, err := seen(t, db, "k", func(tx *database.Tx, _ int64) error {
		ends = tx.Now + 300_000
		tx.Append(kv.Entry{Key: "k", Value: []byte("1"), Time: tx.Now, Operation: kv.OpPut, Expires: ends})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := seen(t, db, "k", func(tx *database.Tx, current int64) error {
		waitFor(t, func() bool {
			_, err := db.Last(t.Context())
			return err != nil || kv.NewTimestamp(db.Now()) >= ends
		})
		tx.Append(kv.Entry{Key: "k", Value: []byte("2"), Time: tx.Now, Operation: kv.OpPut})
		return nil
	})
	if diff := cmp.Diff([]int64{1, 0}, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	if e, err := db.Latest(t.Context(), "k"); err != nil || e.Time < ends {
		t.Errorf("written at %d, the version before ended at %d; %v", e.Time, ends, err)
	}
}

// TestConditionsOfMany: of the writers that have seen the same version one writes the next, and every writer
// gets its turn.
func TestConditionsOfMany(t *testing.T) {
	const writers, each = 4, 60
	url := postgrestest.Database(t)
	var writing sync.WaitGroup
	for range writers {
		db := open(t, url)
		writing.Go(func() {
			for range each {
				for won := false; !won; {
					expected := int64(0)
					if e, err := db.Latest(t.Context(), "k"); err == nil {
						expected = e.Version
					}
					_, err := seen(t, db, "k", func(tx *database.Tx, current int64) error {
						if won = current == expected; won {
							tx.Append(kv.Entry{Key: "k", Value: []byte("1"), Time: tx.Now, Operation: kv.OpPut})
						}
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	writing.Wait()
	conn := connect(t, url)
	wantChain(t, conn)
	if n := number(t, conn, "SELECT version FROM keys"); n != writers*each {
		t.Errorf("the last version is %d, want %d", n, writers*each)
	}
	if n := number(t, conn, "SELECT count(*) FROM versions a JOIN versions b ON b.version = a.version + 1 AND b.timestamp < a.timestamp"); n != 0 {
		t.Errorf("%d times run backwards", n)
	}
}

// TestTablesChange: after a change of the tables a statement that was prepared before is prepared again.
func TestTablesChange(t *testing.T) {
	url := postgrestest.Database(t)
	db, conn := open(t, url), connect(t, url)
	for version := int64(1); version < 6; version++ {
		if version == 4 {
			exec(t, conn, "ALTER TABLE keys ALTER COLUMN total_versions TYPE int")
		}
		if e, err := put(t.Context(), db, "k"); err != nil || e.Version != version {
			t.Errorf("%+v, %v, want version %d", e, err, version)
		}
		if e, err := put(t.Context(), db, fmt.Sprint(version)); err != nil || e.Version != 1 { // reads its head
			t.Errorf("%+v, %v, want version 1", e, err)
		}
	}
}

const writeForever = "KV_TEST_WRITE_FOREVER"

// TestFreeze: backends that stand still, wherever they are, keep others from writing for a short time alone.
func TestFreeze(t *testing.T) {
	if url := os.Getenv(writeForever); url != "" { // this is the process that is to stand still
		db := open(t, url)
		for {
			if _, err := put(t.Context(), db, "k"); err != nil {
				t.Log(err)
			}
		}
	}
	const freezes = 20
	url := postgrestest.Database(t)
	frozen := startWriting(t, url)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, Backend: "beside"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var slowest, mean time.Duration
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := time.Duration(1); ctx.Err() == nil; n++ {
			began := time.Now()
			if _, err := put(context.WithoutCancel(ctx), db, "k"); err != nil {
				t.Error(err)
			}
			took := time.Since(began)
			mean += (took - mean) / n
			slowest = max(slowest, took)
		}
	})
	conn := connect(t, url)
	commits := func(whose string) int64 {
		return number(t, conn, "SELECT count(*) FROM commits WHERE backend "+whose+" 'beside'")
	}
	for range freezes {
		before := commits("<>")
		waitFor(t, func() bool { return commits("<>") > before })
		if err := frozen.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		before = commits("=")
		waitFor(t, func() bool { return commits("=") > before+100 })
		if err := frozen.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	writing.Wait()
	t.Logf("beside %d freezes the slowest write took %s, and the mean of all is %s", freezes, slowest, mean)
	if slowest > time.Second {
		t.Error("a write has waited for a backend that stood still")
	}
	wantChain(t, conn)
}

// startWriting starts a process that writes until the test ends.
func startWriting(t *testing.T, url string) *os.Process {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), writeForever+"="+url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd.Process
}
