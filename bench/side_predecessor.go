package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kvstore/bench/generator"
)

// python is Debian's, for which python3-fastapi, python3-uvicorn and
// python3-httpx are packaged.
const python = "/usr/bin/python3"

// predecessorSide is the service that this one replaces, rebuilt from its
// description: predecessor/ holds it.
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
		host, port, _ := net.SplitHostPort(address) // our own, so it has both
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
