package api_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/store"
)

// databasePart returns the member database of /health.
func databasePart(t *testing.T, s *server) (part struct {
	Status, Engine, Version, Address, Detail string
	Primary                                  bool
	Standbys                                 *int `json:"synchronous_standbys"`
},
) {
	t.Helper()
	answer := struct{ Database any }{&part}
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/health", "").body), &answer); err != nil {
		t.Fatal(err)
	}
	return part
}

// TestSharedHealth: what /health tells of the server, with and without a synchronous standby.
func TestSharedHealth(t *testing.T) {
	server := postgrestest.Server(t, nil)
	url := server.URL("postgres")
	s := startWith(t, store.Config{Database: databasetest.Open(t, url)}, api.Config{})
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	part := databasePart(t, s)
	if part.Status != "ok" || part.Engine != "postgresql" || part.Version == "" || !part.Primary || part.Standbys == nil || *part.Standbys != 0 ||
		!strings.HasSuffix(part.Address, "/postgres") || !strings.Contains(part.Detail, "not synchronous") {
		t.Errorf("without replication: %+v", part)
	}
	setting := func(value string) {
		postgrestest.Exec(t, url, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", value))
		postgrestest.Exec(t, url, "SELECT pg_reload_conf()")
	}
	await := func(what string, done func() bool) {
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, databasePart(t, s))
			}
		}
	}
	setting("standby")
	await("no standby", func() bool {
		part := databasePart(t, s)
		return part.Status == "degraded" && strings.Contains(part.Detail, "No synchronous standby")
	})
	standby := postgrestest.Standby(t, server)
	await("a standby", func() bool {
		part := databasePart(t, s)
		return part.Status == "ok" && part.Detail == "" && *part.Standbys == 1
	})
	standby.Kill()
	setting("")
	backend := s.do(t, "GET", "/readyz", "").body
	if !strings.Contains(backend, `"revision":1,"commit":1`) {
		t.Errorf("/readyz: %s", backend)
	}
}

// TestSharedAge: while the server is down, reads that may be older are answered.
func TestSharedAge(t *testing.T) {
	server := postgrestest.Server(t, nil)
	s := startWith(t, store.Config{Database: databasetest.Open(t, server.URL("postgres"))}, api.Config{})
	s.do(t, "PUT", "/put/k", `{"value":1}`)
	if got := s.do(t, "GET", "/get/k", "", "Cache-Control", "max-age=0"); got.status != 200 || got.header.Get("Age") != "0" {
		t.Errorf("max-age=0: %d, Age %q", got.status, got.header.Get("Age"))
	}
	server.Kill()
	if got := s.do(t, "GET", "/get/k", ""); got.status != 503 {
		t.Errorf("fresh: %d %s", got.status, got.body)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		got := s.do(t, "GET", "/get/k", "", "Cache-Control", "no-transform, max-age=3600")
		age, err := strconv.Atoi(got.header.Get("Age"))
		if got.status != 200 || err != nil || time.Now().After(deadline) {
			t.Fatalf("max-age=3600: %d, Age %q", got.status, got.header.Get("Age"))
		}
		if age > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for target, want := range map[string]int{"/get/k?min_revision=1": 200, "/get/k?min_revision=2": 503} {
		if got := s.do(t, "GET", target, ""); got.status != want {
			t.Errorf("%s: %d %s", target, got.status, got.body)
		}
	}
	if got := s.do(t, "GET", "/get/k", "", "Cache-Control", "max-age=0"); got.status != 503 {
		t.Errorf("max-age=0 without the server: %d", got.status)
	}
	restarted, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restarted.Kill)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		got := s.do(t, "GET", "/get/k?min_revision=1", "")
		if fresh := s.do(t, "GET", "/get/k", ""); got.status == 200 && fresh.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not recover")
		}
	}
	if got := s.do(t, "GET", "/get/k?min_revision=9", ""); got.status != 422 {
		t.Errorf("beyond the store: %d %s", got.status, got.body)
	}
}
