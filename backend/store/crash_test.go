package store_test

import (
	"bufio"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// crashVariable makes the test binary the program that crashes. It says where and at
// which commit, with how many clients, and the URL of the database.
const crashVariable = "STORE_TEST_CRASH"

// TestCrashAtCommit kills the process just before and just after a commit, and checks
// what the next start finds. With one client it is known exactly: what was committed is
// there, answered or not, and nothing else. With several clients, everything that was
// answered is there, at most one more operation of each, and no part of an operation.
func TestCrashAtCommit(t *testing.T) {
	for _, clients := range []int{1, 8} {
		for _, point := range []string{"before", "after"} {
			for _, commit := range []int{1, 2, 9, 40} {
				t.Run(fmt.Sprintf("%s commit %d of %d clients", point, commit, clients), func(t *testing.T) {
					t.Parallel()
					crash(t, point, commit, clients)
				})
			}
		}
	}
}

func crash(t *testing.T, point string, commit, clients int) {
	url := databasetest.FileURL(t)
	answered := runCrasher(t, fmt.Sprintf("%s %d %d %s", point, commit, clients, url), clients)
	if _, err := sqlite.Check(t.Context(), url); err != nil {
		t.Error(err)
	}
	s := open(t, options{url: url})
	var operations, keys int64
	for client, n := range answered {
		found, alive := verifyClient(t, s, client)
		if found < n || found > n+1 {
			t.Errorf("client %d: %d operations were answered, %d are there", client, n, found)
		}
		if clients == 1 {
			want := int64(commit)
			if point == "before" {
				want--
			}
			if found != want {
				t.Errorf("killed %s commit %d: %d operations are there", point, commit, found)
			}
		}
		operations += found
		keys += alive
	}
	stats, err := s.DatabaseStats(t.Context())
	if want := (kv.Totals{Revision: 2 * operations, Versions: 2 * operations, Keys: keys}); err != nil || stats.Totals != want {
		t.Errorf("the counters are %+v, %v, want %+v", stats.Totals, err, want)
	}
	for client := range answered { // the store goes on
		if found, _ := verifyClient(t, s, client); operate(t.Context(), s, client, found+1) != nil {
			t.Errorf("client %d cannot go on after operation %d", client, found)
		}
	}
}

// runCrasher returns how many operations of each client were answered.
func runCrasher(t *testing.T, spec string, clients int) []int64 {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), crashVariable+"="+spec)
	child.Stderr = os.Stderr
	out, err := child.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the program was not killed: %v\n%s", err, out)
	}
	answered := make([]int64, clients)
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		var client int
		var n int64
		if _, err := fmt.Sscan(lines.Text(), &client, &n); err != nil || n != answered[client]+1 {
			t.Fatalf("the program printed %q, %v", lines.Text(), err)
		}
		answered[client] = n
	}
	return answered
}

// operate makes operation n of a client: it writes version n of both of its keys in one batch,
// if both are at version n-1.
func operate(ctx context.Context, s *store.Store, client int, n int64) error {
	x, y := crashKeys(client)
	condition := kv.Condition{Absent: true}
	if n > 1 {
		condition = kv.Condition{OneOf: []int64{n - 1}}
	}
	value := []byte(strconv.FormatInt(n, 10))
	changes := []store.Change{{Operation: kv.OpPut, Key: x, Value: value}, {Operation: kv.OpPut, Key: y, Value: value}}
	if n%3 == 2 { // x existed before
		changes[0] = store.Change{Operation: kv.OpDelete, Key: x}
	}
	_, err := s.Batch(ctx, []store.Requirement{{Key: y, If: condition}}, changes)
	return err
}

func crashKeys(client int) (x, y string) {
	return fmt.Sprint("x", client), fmt.Sprint("y", client)
}

// verifyClient returns how many operations of a client the store has, and how many of its
// keys exist.
func verifyClient(t *testing.T, s *store.Store, client int) (n, alive int64) {
	t.Helper()
	x, y := crashKeys(client)
	for n = 1; ; n++ {
		var errs [2]error
		for i, key := range []string{x, y} {
			var entry kv.Entry
			entry, _, errs[i] = s.GetVersion(t.Context(), key, n)
			if errs[i] == nil && string(entry.Value) != strconv.FormatInt(n, 10) {
				t.Errorf("%s version %d is %s", key, n, entry.Value)
			}
		}
		if missing := errors.Is(errs[1], kv.ErrVersionNotFound); missing != errors.Is(errs[0], kv.ErrVersionNotFound) {
			t.Fatalf("operation %d of client %d is half done: %v", n, client, errs)
		} else if missing {
			n--
			break
		}
		if errs[1] != nil || (n%3 == 2) != errors.Is(errs[0], kv.ErrKeyDeleted) {
			t.Fatalf("operation %d of client %d: %v", n, client, errs)
		}
	}
	switch {
	case n == 0:
		return n, 0
	case n%3 == 2:
		return n, 1
	default:
		return n, 2
	}
}

// crashChild is the program that crashes. It prints a line for each operation that
// was answered.
func crashChild(spec string) error {
	var point, url string
	var commit int64
	var clients int
	if _, err := fmt.Sscan(spec, &point, &commit, &clients, &url); err != nil {
		return err
	}
	var armed atomic.Bool
	var commits atomic.Int64
	die := func(at string) {
		if armed.Load() && at == point && commits.Load() == commit {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal has come
		}
	}
	db, err := sqlite.Open(context.Background(), sqlite.Config{
		URL: url, Logger: slog.New(slog.DiscardHandler),
		ConnectHook: func(conn driver.Conn) error {
			conn.(*sqlite3.SQLiteConn).RegisterCommitHook(func() int {
				if armed.Load() {
					commits.Add(1)
				}
				die("before")
				return 0
			})
			return nil
		},
	})
	if err != nil {
		return err
	}
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 10, MaxBytes: 1000, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		return err
	}
	s, err := store.New(store.Config{Database: db, Cache: entries, MaxValueBytes: 1000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s.SetHooks(store.Hooks{AfterCommit: func() { die("after") }})
	armed.Store(true)
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for n := int64(1); ; n++ {
				if err := operate(context.Background(), s, client, n); err != nil {
					fmt.Fprintln(os.Stderr, client, n, err)
					return
				}
				fmt.Fprintf(os.Stdout, "%d %d\n", client, n) // one write, so lines do not mix
			}
		})
	}
	wg.Wait()
	return errors.New("nobody was killed")
}
