package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// TestMembers: each backend that runs is known, and one that no longer says so is forgotten.
func TestMembers(t *testing.T) {
	url := postgrestest.Database(t)
	conn := connect(t, url)
	first, err := postgres.Open(t.Context(), postgres.Config{URL: url, Backend: "one", Program: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	open(t, url)
	const recent = ` AND abs(seen - extract(epoch FROM clock_timestamp()) * 1000000) < 30000000`
	if n := number(t, conn, "SELECT count(*) FROM members WHERE backend = 'one' AND program = '1.2.3' AND schema = 1"+recent); n != 1 {
		t.Errorf("%d rows are of the backend", n)
	}
	exec(t, conn, "UPDATE members SET seen = seen - 61 * 1000000")
	if err := postgres.Beat(t.Context(), first); err != nil {
		t.Error(err)
	}
	if n := number(t, conn, "SELECT count(*) FROM members WHERE backend = 'one'"+recent); n != 1 {
		t.Errorf("%d rows are of the backend that was seen again", n)
	}
	if n := number(t, conn, "SELECT count(*) FROM members"); n != 1 {
		t.Errorf("there are %d members, want the one that was seen", n)
	}
}

// expand is what a later version may do beside backends of this one.
var expand = []string{
	"ALTER TABLE versions ADD COLUMN note text", "CREATE TABLE notes (id bigint PRIMARY KEY)",
	"UPDATE kvstore_schema SET version = 2",
}

// TestUpgrade: backends of this version run, and start, with tables to which a later one has added. They stop when
// it has taken away what they use, as a new one refuses to start.
func TestUpgrade(t *testing.T) {
	url := postgrestest.Database(t)
	conn, before := connect(t, url), open(t, url)
	exec(t, conn, expand...)
	after := open(t, url)
	for n := int64(1); n < 5; n += 2 {
		if e, err := put(t.Context(), before, "k"); err != nil || e.Version != n {
			t.Errorf("from before: %+v, %v", e, err)
		}
		if e, err := put(t.Context(), after, "k"); err != nil || e.Version != n+1 {
			t.Errorf("from after: %+v, %v", e, err)
		}
	}
	if err := errors.Join(postgres.Beat(t.Context(), before), postgres.Beat(t.Context(), after)); err != nil {
		t.Error(err)
	}
	exec(t, conn, "UPDATE kvstore_schema SET least = 2")
	wantRefused(t, url, "schema 2 or later", "knows schema 1", "newer version")
	if err := postgres.Beat(t.Context(), before); err == nil || !strings.Contains(err.Error(), "schema 2 or later") {
		t.Errorf("a backend that runs: %v", err)
	}
	if _, err := put(t.Context(), before, "k"); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("its writes: %v, want ErrUnavailable", err)
	}
	if err := before.Ping(t.Context()); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("Ping: %v, want ErrUnavailable", err)
	}
}

// TestUpgradeWhileStarting: a backend that starts while another changes the tables waits for what comes of it.
func TestUpgradeWhileStarting(t *testing.T) {
	for _, least := range []int{1, 2} {
		t.Run(fmt.Sprintf("least %d", least), func(t *testing.T) {
			url := postgrestest.Database(t)
			conn, other := connect(t, url), connect(t, url)
			open(t, url)
			exec(t, conn, "BEGIN", "SELECT version FROM kvstore_schema FOR UPDATE")
			exec(t, conn, append(expand, fmt.Sprintf("UPDATE kvstore_schema SET least = %d", least))...)
			result := make(chan error)
			go func() {
				db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
				if err == nil {
					err = db.Close()
				}
				result <- err
			}()
			waitFor(t, func() bool {
				return number(t, other, `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
			})
			exec(t, conn, "COMMIT")
			if err := <-result; (err == nil) != (least == 1) || err != nil && !strings.Contains(err.Error(), "schema 2 or later") {
				t.Error(err)
			}
		})
	}
}
