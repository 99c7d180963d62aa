package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kvstore/bench/generator"
)

// python is Debian's interpreter, for which python3-fastapi, python3-uvicorn and python3-httpx are
// packaged.
const python = "/usr/bin/python3"

// predecessorSide is the service that this one replaces, rebuilt from its description in
// predecessor/.
type predecessorSide struct {
	*programs
	repaired bool
}

func (s *predecessorSide) name() string {
	if s.repaired {
		return "predecessor-repaired"
	}
	return "predecessor"
}

func (s *predecessorSide) about() string {
	const what = "the FastAPI service that this one replaces, rebuilt from its description: gateway and backend, uvicorn without an access log, SQLite; "
	if s.repaired {
		return what + "its gateway keeps one httpx.AsyncClient"
	}
	return what + "its gateway makes an httpx.AsyncClient for each request"
}

func (s *predecessorSide) version(ctx context.Context) (string, error) {
	const script = `import sys, sqlite3, fastapi, uvicorn, httpx
print("Python", sys.version.split()[0], "fastapi", fastapi.__version__, "uvicorn", uvicorn.__version__, "httpx", httpx.__version__, "SQLite", sqlite3.sqlite_version)`
	output, err := exec.CommandContext(ctx, python, "-c", script).Output()
	if err != nil {
		return "", fmt.Errorf("python3-fastapi, python3-uvicorn, python3-httpx: %w", errNotInstalled)
	}
	return strings.TrimSpace(string(output)), nil
}

func (s *predecessorSide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, err
	}
	backend, gateway := addresses[0], addresses[1]
	database := filepath.Join(where.dir, "kv_store.db")
	client := "each"
	if s.repaired {
		client = "kept"
	}
	env := []string{"PYTHONPATH=" + filepath.Join(s.root, "bench", "predecessor"), "PYTHONDONTWRITEBYTECODE=1", "PREDECESSOR_DATABASE=" + database}
	if where.cacheKeys > 0 {
		env = append(env, "PREDECESSOR_CACHE="+strconv.Itoa(where.cacheKeys))
	}
	module := func(name, module, address string, more ...string) program {
		host, port, _ := net.SplitHostPort(address) // never fails for our own address
		return program{name: name, path: python, dir: where.dir, env: env, args: append([]string{"-m", module, host, port}, more...)}
	}
	processes, err := startAll(ctx, answersOK("http://"+gateway+"/cache/stats"),
		module("backend", "server.main", backend),
		module("gateway", "gateway.main", gateway, "http://"+backend, client))
	if err != nil {
		return nil, err
	}
	started := networkStore(gateway, generator.KV{Host: gateway}, processes...)
	started.fill = func(load generator.Load) error {
		return fillPredecessor(ctx, database, load, started.known.of(load))
	}
	return started, nil
}

// fillPredecessor writes version 1 of every key into the predecessor's database. The predecessor
// itself would take many minutes for 100,000 keys.
func fillPredecessor(ctx context.Context, path string, load generator.Load, keys *generator.Keys) error {
	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	addKey, err := tx.PrepareContext(ctx, "INSERT INTO keys (key, created_at, updated_at) VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	addValue, err := tx.PrepareContext(ctx, `INSERT INTO "values" (key, value, version, timestamp) VALUES (?, ?, 1, ?)`)
	if err != nil {
		return errors.Join(err, addKey.Close())
	}
	defer func() { _, _ = addKey.Close(), addValue.Close() }()
	now := float64(time.Now().UnixMicro()) / 1e6
	for i := range load.Keys {
		name := load.Key(i)
		_, err := addKey.ExecContext(ctx, name, now, now)
		if err == nil {
			_, err = addValue.ExecContext(ctx, name, string(generator.AppendValue(nil, name, uint64(i))), now)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	keys.Filled(1)
	return nil
}
