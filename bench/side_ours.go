package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kvstore/bench/generator"
)

// programs are the programs of this repository.
type programs struct {
	root                      string
	backend, gateway, traefik string
	commit                    string
}

// build builds our programs with the launcher of the repository.
func build(ctx context.Context, root string) (*programs, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, "go", "run", "./internal/up", "--build-only")
	command.Dir = root
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go run ./internal/up --build-only: %w\n%s", err, output)
	}
	p := &programs{root: root, commit: commit(ctx, root)}
	for line := range strings.Lines(string(output)) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "backend":
			p.backend = path
		case "gateway":
			p.gateway = path
		case "traefik":
			p.traefik = path
		}
	}
	if p.backend == "" || p.gateway == "" || p.traefik == "" {
		return nil, fmt.Errorf("go run ./internal/up --build-only does not name all programs:\n%s", output)
	}
	return p, nil
}

// commit returns the commit that is built. Changes of only the benchmark do not count.
func commit(ctx context.Context, root string) string {
	git := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD")
	git.Dir = root
	head, err := git.Output()
	if err != nil {
		return "unknown commit"
	}
	git = exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ".", ":!bench")
	git.Dir = root
	if changes, err := git.Output(); err != nil || len(changes) > 0 {
		return "commit " + strings.TrimSpace(string(head)) + " with uncommitted changes"
	}
	return "commit " + strings.TrimSpace(string(head))
}

func (p *programs) backendAt(where place, address string) program {
	return p.backendOn(where, "backend", address, "sqlite:"+filepath.Join(where.dir, "kv_store.db"))
}

// backendOn returns a backend on a database.
func (p *programs) backendOn(where place, name, address, database string) program {
	env := []string{"KV_BACKEND_ADDR=" + address, "KV_DATABASE_URL=" + database}
	if where.cacheKeys > 0 {
		env = append(env, "KV_CACHE_MAX_KEYS="+strconv.Itoa(where.cacheKeys))
	}
	return program{name: name, path: p.backend, dir: where.dir, env: env}
}

func (p *programs) gatewayAt(where place, address, backend string) program {
	return program{name: "gateway", path: p.gateway, dir: where.dir, env: []string{
		"KV_GATEWAY_ADDR=" + address,
		"KV_BACKENDS=http://" + backend,
	}}
}

// startOurs starts programs. The last one listens on address.
func startOurs(ctx context.Context, address string, wanted ...program) (*store, error) {
	processes, err := startAll(ctx, answersOK("http://"+address+"/health"), wanted...)
	if err != nil {
		return nil, err
	}
	started := networkStore(address, generator.KV{Host: address}, processes...)
	started.verify = func(ctx context.Context, load generator.Load) (string, error) {
		return verifyOurs(ctx, address, started.known, load)
	}
	return started, nil
}

// backendSide is the backend alone.
type backendSide struct{ *programs }

func (s *backendSide) name() string { return "backend" }

func (s *backendSide) about() string { return "our backend alone" }

func (s *backendSide) version(context.Context) (string, error) { return s.commit, nil }

func (s *backendSide) start(ctx context.Context, where place) (*store, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return startOurs(ctx, address, s.backendAt(where, address))
}

// gatewaySide is the gateway in front of the backend.
type gatewaySide struct{ *programs }

func (s *gatewaySide) name() string { return "gateway" }

func (s *gatewaySide) about() string { return "our gateway in front of our backend" }

func (s *gatewaySide) version(context.Context) (string, error) { return s.commit, nil }

func (s *gatewaySide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, err
	}
	return startOurs(ctx, addresses[1],
		s.backendAt(where, addresses[0]),
		s.gatewayAt(where, addresses[1], addresses[0]))
}
