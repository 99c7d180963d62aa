package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"kvstore/backend/api"
	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/store"
)

// TestCompact tests that each step frees at most a mebibyte, until nothing is free.
func TestCompact(t *testing.T) {
	s := startOnFile(t)
	for range 2_000 {
		s.do(t, "PUT", "/put/k", `{"value":"`+strings.Repeat("x", 900)+`"}`)
	}
	for pruned := 1; pruned > 0; {
		done, err := s.db.Prune(t.Context(), []string{"k"}, database.Retention{MaxVersions: 1}, 256)
		if err != nil {
			t.Fatal(err)
		}
		pruned = done.Versions
	}
	var freed, steps int64
	for free := int64(1); free > 0; steps++ {
		response, err := http.Post(s.URL+"/db/compact", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		var step struct {
			Freed int64 `json:"freed_bytes"`
			Free  int64 `json:"free_bytes"`
			Size  int64 `json:"database_size_bytes"`
		}
		err = json.NewDecoder(response.Body).Decode(&step)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || step.Freed > 1<<20 || step.Size < 1 || step.Free > 0 && step.Freed == 0 {
			t.Fatalf("%d %+v, %v", response.StatusCode, step, err)
		}
		freed, free = freed+step.Freed, step.Free
	}
	if steps < 2 || freed < 1<<20 {
		t.Errorf("%d bytes were given back in %d steps", freed, steps)
	}
}

// TestUnsupported: what PostgreSQL does by itself is refused there.
func TestUnsupported(t *testing.T) {
	s := startWith(t, store.Config{Database: databasetest.Open(t, postgrestest.Database(t))}, api.Config{})
	got := s.do(t, "POST", "/db/compact", "")
	if fields := got.problem(t); got.status != 501 || fields["code"] != "unsupported" || !strings.Contains(got.body, "PostgreSQL") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
