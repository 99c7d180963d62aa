package postgres_test

import (
	"os"
	"testing"

	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// TestCutAnywhere cuts the connection of a write at each byte that goes to the server or comes from it, so
// before, within and after the commit. Each outcome is found, and a write that was not made is made on
// another connection: it is there once. The short form takes some of the bytes.
func TestCutAnywhere(t *testing.T) {
	steps := map[postgrestest.Direction]int{postgrestest.ToServer: 61, postgrestest.ToClient: 7}
	if os.Getenv("FAULTS") == "long" {
		clear(steps)
	}
	url := postgrestest.Database(t)
	conn := connect(t, url)
	proxy, through := postgrestest.StartProxy(t, url)
	db := open(t, through)
	version := int64(0)
	write := func() (kv.Entry, error) {
		e, err := put(t.Context(), db, "k")
		if err == nil {
			version++
		}
		return e, err
	}
	for d, name := range map[postgrestest.Direction]string{postgrestest.ToServer: "to the server", postgrestest.ToClient: "from the server"} {
		made, step := 0, max(1, steps[d])
		for n := 0; ; n += step {
			// This one has the connection that the next one is to lose.
			if e, err := write(); err != nil || e.Version != version {
				t.Fatalf("%s, after the cut at byte %d: %+v, %v, want version %d", name, n-step, e, err, version)
			}
			proxy.CutAfter(d, n)
			e, err := write()
			if !proxy.Passes() {
				break // the write needs no more bytes
			}
			if err != nil || e.Version != version {
				t.Errorf("%s, cut at byte %d: %+v, %v; before it was version %d", name, n, e, err, version)
			}
			made++
			if there := number(t, conn, "SELECT count(*) FROM versions"); there != version {
				t.Fatalf("%s, cut at byte %d: %v, but %d versions are there, want %d", name, n, err, there, version)
			}
		}
		if t.Logf("cut %s: %d writes were made", name, made); made == 0 {
			t.Errorf("cut %s: no write needed a byte", name)
		}
	}
	if got := db.Chain(); got.Made == 0 || got.Lost == 0 || got.Unknown != 0 {
		t.Errorf("%+v; want commits that were found, and some that were not", got)
	}
	wantChain(t, conn)
}
