package postgres_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
)

func wantRefused(t *testing.T, url string, words ...string) {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err == nil {
		db.Close()
		t.Fatalf("opened, want a refusal that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v\ndoes not say %q", err, word)
		}
	}
	wantNoPassword(t, err)
}

func wantNoPassword(t *testing.T, err error) {
	t.Helper()
	for _, shown := range []string{postgrestest.Password, url.QueryEscape(postgrestest.Password), "for%20tests", "secret"} {
		if strings.Contains(err.Error(), shown) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		setup string // DATABASE stands for the name of the database
		words []string
	}{
		"newer schema":  {"CREATE TABLE kvstore_schema (id bigint, version bigint, least bigint); INSERT INTO kvstore_schema VALUES (1, 3, 2)", []string{"schema 3", "schema 2 or later", "newer version", "schema 1"}},
		"other program": {"CREATE TABLE keys (id bigint)", []string{"another program", "keys"}},
		"read-only":     {"ALTER DATABASE DATABASE SET default_transaction_read_only = on", []string{"read-only", "default_transaction_read_only"}},
		"no schema":     {"ALTER DATABASE DATABASE SET search_path = nowhere", []string{"search_path"}},
	} {
		t.Run(name, func(t *testing.T) {
			source := postgrestest.Database(t)
			conn := connect(t, source)
			exec(t, conn, strings.ReplaceAll(c.setup, "DATABASE DATABASE", "DATABASE "+conn.Config().Database))
			wantRefused(t, source, c.words...)
		})
	}
	t.Run("no right to make tables", func(t *testing.T) {
		source := postgrestest.Database(t)
		conn := connect(t, source)
		exec(t, conn, "CREATE ROLE guest LOGIN PASSWORD 'secret'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
		t.Cleanup(func() { exec(t, conn, "DROP ROLE guest") })
		guest, err := url.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		guest.User = url.UserPassword("guest", "secret")
		wantRefused(t, guest.String(), `"guest"`, "GRANT CREATE ON SCHEMA")
	})
	t.Run("encoding", func(t *testing.T) {
		source := postgrestest.Database(t)
		conn := connect(t, source)
		exec(t, conn, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
		t.Cleanup(func() { exec(t, conn, "DROP DATABASE latin") })
		latin, err := url.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		latin.Path = "/latin"
		wantRefused(t, latin.String(), "LATIN1", "UTF8")
	})
	t.Run("too old", func(t *testing.T) {
		err := postgres.RefuseServer(130012, "13.12 (Debian)", "UTF8")
		if err == nil || !strings.Contains(err.Error(), "13.12") || !strings.Contains(err.Error(), "14 or later") {
			t.Error(err)
		}
		if err := postgres.RefuseServer(140000, "14.0", "UTF8"); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusedURLs: what is wrong with the URL, or with what it names, is said.
func TestRefusedURLs(t *testing.T) {
	source := postgrestest.Database(t)
	good, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	down, err := postgrestest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", down)
	for name, c := range map[string]struct {
		change func(*url.URL)
		words  []string
	}{
		"wrong password":    {func(u *url.URL) { u.User = url.UserPassword("postgres", "secret") }, []string{"password authentication failed", `"postgres"`}},
		"no password":       {func(u *url.URL) { u.User = url.User("postgres") }, []string{"password"}},
		"unknown role":      {func(u *url.URL) { u.User = url.UserPassword("nobody", "secret") }, []string{`"nobody"`}},
		"unknown database":  {func(u *url.URL) { u.Path = "/nowhere" }, []string{`"nowhere" does not exist`}},
		"unknown host":      {func(u *url.URL) { u.Host = "nowhere.invalid" }, []string{"nowhere.invalid"}},
		"no server":         {func(u *url.URL) { u.Host = nobody }, []string{nobody, "refused"}},
		"no server of two":  {func(u *url.URL) { u.Host = nobody + ",127.0.0.1:1" }, []string{nobody, "127.0.0.1:1", "refused"}},
		"unknown parameter": {func(u *url.URL) { u.RawQuery += "&nonsense=1" }, []string{`"nonsense"`}},
		"wrong value":       {func(u *url.URL) { u.RawQuery += "&lock_timeout=long" }, []string{`"lock_timeout"`}},
		"no TLS":            {func(u *url.URL) { u.RawQuery = "sslmode=require" }, []string{"refused TLS"}},
		"no certificate":    {func(u *url.URL) { u.RawQuery = "sslmode=verify-full&sslrootcert=/nowhere/ca.pem" }, []string{"/nowhere/ca.pem"}},
		"no key":            {func(u *url.URL) { u.RawQuery = "sslcert=/nowhere/c.pem&sslkey=/nowhere/k.pem" }, []string{"/nowhere/"}},
		"wrong sslmode":     {func(u *url.URL) { u.RawQuery = "sslmode=sometimes" }, []string{"sslmode"}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := *good
			c.change(&changed)
			wantRefused(t, changed.String(), c.words...)
		})
	}
	t.Run("one server of two", func(t *testing.T) {
		if _, err := put(t.Context(), open(t, strings.Replace(source, good.Host, nobody+","+good.Host, 1)), "k"); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusedLeavesNothing: a database of another program is left as it was.
func TestRefusedLeavesNothing(t *testing.T) {
	source := postgrestest.Database(t)
	conn := connect(t, source)
	exec(t, conn, "CREATE TABLE versions (id bigint)")
	wantRefused(t, source, "versions")
	if n := number(t, conn, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"); n != 1 {
		t.Errorf("there are %d tables, was one", n)
	}
}

// TestStandby: a standby is refused, and of several hosts the primary is found.
func TestStandby(t *testing.T) {
	primary := postgrestest.Server(t, nil)
	standby := postgrestest.Standby(t, primary)
	wantRefused(t, standby.URL("postgres"), "standby")
	both := strings.Replace(standby.URL("postgres"), standby.Address(), standby.Address()+","+primary.Address(), 1)
	if _, err := put(t.Context(), open(t, both), "k"); err != nil {
		t.Error(err)
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	good := postgrestest.Database(t)
	host := connect(t, good).Config().Host
	for _, source := range []string{
		"postgres://u:secret@127.0.0.1:1/db", "postgres://u:sec%zzret@h/secret", "postgres://u:secret@h:secret/db", "postgres://u:a/secret@h/db",
		"postgres://u:a?secret@h/db", "postgres://u:a#secret@h/db", "postgres://u:a@secret@h:x/db", "postgres://h/db?password=secret&sslmode=wrong",
		"postgres://u:secret@h/db?sslmode=wrong", "postgres://u:secret@h/db?connect_timeout=x", "postgres://u:secret@[::1/db", "host=h password=secret",
		"mysql://u:secret@h/db", "postgres://127.0.0.1:1/db?user=u&password=secret", "postgres://u:1?secret@h/db", "postgres://u:1#secret",
		strings.Replace(good, "@"+host, "secret@"+host, 1), // not the password
	} {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: source})
		if err == nil {
			db.Close()
			t.Errorf("%s was opened", source)
			continue
		}
		wantNoPassword(t, err)
	}
	db := open(t, good)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := put(t.Context(), db, "k")
	if err == nil {
		t.Fatal("a closed database has written")
	}
	wantNoPassword(t, err)
}
