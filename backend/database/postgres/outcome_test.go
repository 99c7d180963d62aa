package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// TestCutBeforeCommit: the connection ends before the commit, and nothing was written. The write is made
// on another connection.
func TestCutBeforeCommit(t *testing.T) {
	url := postgrestest.Database(t)
	db, conn := open(t, url), connect(t, url)
	cut := func() {
		exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE '%commits%' AND pid <> pg_backend_pid()`)
	}
	for version := int64(1); version < 5; version++ { // the first has a transaction, the others have none
		var once sync.Once
		if e, err := put(t.Context(), db, "k", func() { once.Do(cut) }); err != nil || e.Version != version {
			t.Errorf("%+v, %v, want version %d", e, err, version)
		}
	}
	if n := number(t, conn, "SELECT count(*) FROM versions"); n != 4 {
		t.Errorf("%d versions, want 4", n)
	}
	wantChain(t, conn)
}

// TestCutAtCommit: the connection ends when the server is about to commit, at each attempt. Nothing was
// written, the error says so, and the next write works.
func TestCutAtCommit(t *testing.T) {
	url := postgrestest.Database(t)
	db, conn := open(t, url), connect(t, url)
	exec(t, conn, `CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$`)
	for version := int64(1); version < 3; version++ {
		exec(t, conn, "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON commits DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()")
		_, err := put(t.Context(), db, "k")
		if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrOutcomeUnknown) || db.Failing() {
			t.Errorf("at the commit: %v, want ErrUnavailable", err)
		}
		exec(t, conn, "DROP TRIGGER die ON commits")
		if e, err := put(t.Context(), db, "k"); err != nil || e.Version != version {
			t.Errorf("afterwards: %+v, %v", e, err)
		}
	}
	if got := db.Chain(); got.Lost == 0 || got.Made != 0 || got.Unknown != 0 {
		t.Errorf("%+v", got)
	}
	wantChain(t, conn)
}

// TestAnswerLost: the server has committed, and its answer does not arrive. The commit is found, and answered
// as the success it is.
func TestAnswerLost(t *testing.T) {
	url := postgrestest.Database(t)
	conn := connect(t, url)
	p, through := postgrestest.StartProxy(t, url)
	db := open(t, through)
	put1 := func(version int64, cut string) {
		t.Helper()
		p.LoseAnswer(cut)
		if e, err := put(t.Context(), db, "k"); err != nil || e.Version != version {
			t.Errorf("%+v, %v, want version %d", e, err, version)
		}
		if !p.Passes() {
			t.Fatal("no answer was lost")
		}
	}
	for n := range int64(3) {
		put1(2*n+1, "commit\x00") // of a transaction, for after a failure nothing is known
		if _, err := put(t.Context(), db, "other"); err != nil {
			t.Fatal(err)
		}
		put1(2*n+2, t.Name()) // of a statement
	}
	wantChain(t, conn)
	if n := number(t, conn, "SELECT count(*) FROM versions"); n != 9 {
		t.Errorf("%d versions, want 9", n)
	}
	if got := db.Chain(); got.Made != 6 || got.Lost != 0 || got.Unknown != 0 {
		t.Errorf("%+v, want 6 that were made", got)
	}
}

// TestUnreplicated: while a standby is missing a write is not answered. When its wait is ended by the
// operator that is no success; it is one when a later commit has the standby's word.
func TestUnreplicated(t *testing.T) {
	server := postgrestest.Server(t, nil)
	url := server.URL("postgres")
	db, conn := open(t, url), connect(t, url)
	missing := func(name string) {
		exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()")
		waitFor(t, func() bool {
			return number(t, connect(t, url), "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = '"+name+"'") == 1
		})
	}
	const waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	version := int64(0)
	for _, end := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		version++
		missing("nobody")
		result := make(chan error)
		go func() {
			_, err := put(context.WithoutCancel(t.Context()), db, "k")
			result <- err
		}()
		blocked := func() bool { return number(t, conn, "SELECT count(*) "+waiting) == 1 }
		waitFor(t, blocked)
		exec(t, conn, "SELECT "+end+"(pid) "+waiting)
		waitFor(t, blocked) // it waits again, for the word of the standby
		select {
		case err := <-result:
			t.Fatalf("%s: %v, though no standby has it", end, err)
		default:
		}
		missing("")
		if err := <-result; err != nil {
			t.Errorf("%s, and then no standby is needed: %v", end, err)
		}
		if e, err := db.Latest(t.Context(), "k"); err != nil || e.Version != version {
			t.Errorf("%s: %+v, %v", end, e, err)
		}
	}
	missing("nobody")
	if _, err := put(t.Context(), db, "k"); !errors.Is(err, kv.ErrOutcomeUnknown) || !db.Failing() {
		t.Errorf("without a standby: %v, want ErrOutcomeUnknown", err)
	}
	missing("")
	if err := db.Settle(t.Context()); err != nil || db.Failing() {
		t.Error(err)
	}
	if e, err := put(t.Context(), db, "k"); err != nil || e.Version != version+2 {
		t.Errorf("afterwards: %+v, %v", e, err)
	}
	wantChain(t, conn)
}

// TestServerStartsAgain: writes fail while the server is down, and work when it is there again.
func TestServerStartsAgain(t *testing.T) {
	server := postgrestest.Server(t, nil)
	db := open(t, server.URL("postgres"))
	if _, err := put(t.Context(), db, "k"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	for range 3 {
		if _, err := put(t.Context(), db, "k"); !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("a write without a server: %v, want ErrUnavailable", err)
		}
		if _, err := db.Latest(t.Context(), "k"); !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("a read without a server: %v, want ErrUnavailable", err)
		}
	}
	if err := db.Ping(t.Context()); err == nil {
		t.Error("Ping answers without a server")
	} else {
		wantNoPassword(t, err)
	}
	again, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Kill)
	waitFor(t, func() bool { return db.Ping(t.Context()) == nil })
	if e, err := put(t.Context(), db, "k"); err != nil || e.Version != 2 {
		t.Errorf("afterwards: %+v, %v", e, err)
	}
}
