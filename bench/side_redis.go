package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"

	"kvstore/bench/generator"
)

// redisSide is Redis with a synced append-only file.
type redisSide struct{}

func (redisSide) name() string { return "redis" }

func (redisSide) about() string {
	return "redis-server, SET and GET over RESP, appendfsync always, no snapshots and no rewriting of the file; keeps no versions, and all data in memory"
}

func (redisSide) version(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("redis-server: %w", errNotInstalled)
	}
	for field := range strings.FieldsSeq(string(output)) {
		if version, found := strings.CutPrefix(field, "v="); found {
			return "redis " + version, nil
		}
	}
	return "redis, unknown version", nil
}

func (redisSide) start(ctx context.Context, where place) (*store, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	listens := func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	processes, err := startAll(ctx, listens, program{name: "redis", path: "redis-server", dir: where.dir, args: []string{
		"--bind", host, "--port", port, "--dir", where.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--save", "",
	}})
	if err != nil {
		return nil, err
	}
	return networkStore(address, generator.Redis{}, processes...), nil
}
