package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/internal/postgresql"
)

// A faultyServer is a PostgreSQL server, and a backend on it whose role has no privileges.
type faultyServer struct {
	*postgresql.Server
	network *postgrestest.Proxy // between the two
	url     string              // of the database, without the network
	admin   *pgx.Conn
	backend *process
	size    int              // of values
	stored  map[string]int64 // the version of each key that was answered last
}

// startFaulty creates the database with those options, after what comes before it.
func startFaulty(t *testing.T, options string, before ...string) *faultyServer {
	t.Helper()
	s := &faultyServer{Server: postgrestest.Server(t, map[string]string{"max_connections": "30"}), stored: map[string]int64{}}
	admin, err := pgx.Connect(context.Background(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) }) // the server may have ended
	s.admin = admin
	s.exec(t, append(before, "CREATE ROLE app LOGIN PASSWORD '"+postgrestest.Password+"'", "CREATE DATABASE app OWNER app"+options)...)
	app, err := url.Parse(s.URL("app"))
	if err != nil {
		t.Fatal(err)
	}
	app.User = url.UserPassword("app", postgrestest.Password)
	s.url = app.String()
	network, through := postgrestest.StartProxy(t, s.url)
	s.network = network
	s.backend = spawn(t, append(environment("", "2"), "KV_DATABASE_URL="+through, "KV_LOG_LEVEL=debug"))
	s.backend.faulty = true
	t.Cleanup(func() {
		if log := s.backend.log.String(); strings.Contains(log, "for%20tests") || strings.Contains(log, postgrestest.Password) {
			t.Error("the log has the password")
		}
	})
	s.put(t, "k", http.StatusOK)
	return s
}

func (s *faultyServer) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := s.admin.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// request returns the answer. It must come before a gateway would give up, and show nothing of the server.
func (s *faultyServer) request(t *testing.T, method, path, body string) (status int, answer map[string]any) {
	t.Helper()
	began := time.Now()
	request, err := http.NewRequestWithContext(t.Context(), method, s.backend.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	response, err := s.backend.client.Do(request)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Error(err)
	}
	status = response.StatusCode
	if waited := time.Since(began); waited > time.Second {
		t.Logf("%s %s: %d after %s", method, path, status, waited.Round(100*time.Millisecond))
	}
	if status == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s: 503 without Retry-After", method, path)
	}
	for _, secret := range []string{"127.0.0.1", "SQLSTATE", "for tests"} {
		if status >= http.StatusBadRequest && strings.Contains(fmt.Sprint(answer), secret) {
			t.Errorf("%s %s: %v shows %q", method, path, answer, secret)
		}
	}
	return status, answer
}

// put writes a value, and wants one of those statuses.
func (s *faultyServer) put(t *testing.T, key string, want ...int) (status int) {
	t.Helper()
	value := make([]byte, s.size/2)
	for i := range value {
		value[i] = byte(rand.Uint32()) // which does not compress
	}
	status, answer := s.request(t, "PUT", "/put/"+key, fmt.Sprintf(`{"value":"%x"}`, value))
	if status == http.StatusOK {
		s.stored[key]++
	}
	for _, one := range want {
		if status == one && (status != http.StatusOK || answer["version"] == float64(s.stored[key])) {
			return status
		}
	}
	t.Errorf("PUT %s: %d %.300v, want %d, and version %d after 200", key, status, answer, want, s.stored[key])
	return status
}

// read reads all that was written, and a key that was not. An answer is right, or is 503 if that is allowed.
func (s *faultyServer) read(t *testing.T, unavailable bool) {
	t.Helper()
	allowed := func(status int) bool { return unavailable && status == http.StatusServiceUnavailable }
	for key, version := range s.stored {
		status, answer := s.request(t, "GET", "/get/"+key, "")
		if (status != http.StatusOK || answer["version"] != float64(version)) && !allowed(status) {
			t.Errorf("GET %s: %d %.300v, want version %d", key, status, answer, version)
		}
	}
	if status, _ := s.request(t, "GET", "/get/none", ""); status != http.StatusNotFound && !allowed(status) {
		t.Errorf("GET none: %d", status)
	}
	status, answer := s.request(t, "GET", "/keys", "")
	keys, _ := answer["keys"].([]any)
	if (status != http.StatusOK || len(keys) != len(s.stored)) && !allowed(status) {
		t.Errorf("GET /keys: %d %.300v, want %d keys", status, answer, len(s.stored))
	}
}

// unavailable wants writes, /health and /readyz refused.
func (s *faultyServer) unavailable(t *testing.T) {
	t.Helper()
	for range 3 {
		s.put(t, "k", http.StatusServiceUnavailable)
	}
	s.read(t, true)
	for _, path := range []string{"/health", "/readyz"} {
		if status, answer := s.request(t, "GET", path, ""); status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
}

// recovers waits until a write succeeds. Then all else works, without a restart of the backend.
func (s *faultyServer) recovers(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.put(t, "k", http.StatusOK, http.StatusServiceUnavailable) != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("writes do not work again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.read(t, false)
	s.backend.wantHealth(t, http.StatusOK, `"database":{"status":"ok"`)
}

func TestServerStopped(t *testing.T) {
	t.Parallel()
	s := startFaulty(t, "")
	for _, stop := range []func(*postgresql.Server){(*postgresql.Server).Stop, (*postgresql.Server).Kill} {
		stop(s.Server)
		for deadline := time.Now().Add(patience); s.network.Links() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("sessions of the server have not ended") // after a kill they serve until they notice
			}
		}
		s.unavailable(t)
		again, err := s.Restart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(again.Kill)
		s.Server = again
		s.recovers(t)
	}
}

func TestServerReadOnly(t *testing.T) {
	t.Parallel()
	s := startFaulty(t, "")
	s.backend.wantHealth(t, http.StatusOK, `"database":{"status":"ok"`)
	s.exec(t, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	for deadline := time.Now().Add(patience); s.put(t, "k", http.StatusOK, http.StatusServiceUnavailable) == http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("the server can be written still")
		}
	}
	s.unavailable(t)
	s.exec(t, "SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
	s.recovers(t)
}

// TestServerConnections: others have every connection of the server that is left when those of the backend end.
func TestServerConnections(t *testing.T) {
	t.Parallel()
	s := startFaulty(t, "")
	var taken []*pgx.Conn
	take := func() {
		for {
			conn, err := pgx.Connect(context.Background(), s.url)
			if err != nil {
				return
			}
			taken = append(taken, conn)
		}
	}
	take()
	s.put(t, "k", http.StatusOK) // by the connection that it has
	s.exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
	take()
	take() // those that the terminated ones still had
	s.unavailable(t)
	for _, conn := range taken {
		_ = conn.Close(context.Background()) // some were terminated
	}
	s.recovers(t)
}

// TestServerDiskFull: the disk of the tables is full, that of the log is not.
func TestServerDiskFull(t *testing.T) {
	t.Parallel()
	d := &disk{filepath.Join(postgrestest.Directory(t), "small")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.mount(t, "24m")
	if owner := postgresql.ProcessAttributes().Credential; owner != nil {
		if err := os.Chown(d.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s := startFaulty(t, " TABLESPACE small", "CREATE TABLESPACE small LOCATION '"+d.dir+"'")
	s.size = 300_000
	for i := 0; s.put(t, fmt.Sprint("k", i), http.StatusOK, http.StatusInsufficientStorage) == http.StatusOK; i++ {
	}
	ballast := d.fill(t)
	for range 3 {
		s.put(t, "k", http.StatusInsufficientStorage)
	}
	s.read(t, false)
	s.backend.wantHealth(t, http.StatusOK, "The disk is full")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.grow(t, "96m")
	s.put(t, "k", http.StatusOK)
	s.recovers(t)
}

// TestServerSilent: neither the server nor its network says that it is gone. Nobody waits for ever.
func TestServerSilent(t *testing.T) {
	t.Parallel()
	s := startFaulty(t, "")
	s.read(t, false)
	end := s.network.Silence()
	var asking sync.WaitGroup
	for range 3 {
		for _, path := range []string{"/get/none", "/keys", "/history/k", "/health", "/readyz"} {
			asking.Go(func() {
				if status, answer := s.request(t, "GET", path, ""); status != http.StatusServiceUnavailable {
					t.Errorf("GET %s: %d %v", path, status, answer)
				}
			})
		}
		asking.Go(func() {
			if status, answer := s.request(t, "PUT", "/put/lost", `{"value":1}`); status != http.StatusServiceUnavailable {
				t.Errorf("PUT: %d %v", status, answer)
			}
		})
	}
	asking.Wait()
	end()
	s.recovers(t)
}
