package main

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/etcd/server/v3/embed"

	"kvstore/bench/generator"
)

// etcdSide is an etcd with one member, in a separate process.
type etcdSide struct{}

func (etcdSide) name() string { return "etcd" }

func (etcdSide) about() string {
	return "etcd with one member, embedded in a separate process, over its JSON gateway (/v3/kv/put and /v3/kv/range); fsync on; linearizable reads; keeps versions until compaction"
}

func (etcdSide) version(context.Context) (string, error) {
	return "etcd " + moduleVersion("go.etcd.io/etcd/server/v3"), nil
}

// moduleVersion returns the version of a module in this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown version"
	}
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return "unknown version"
}

// etcdCommand is the argument that turns this program into an etcd server.
const etcdCommand = "etcd-server"

func (etcdSide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, err
	}
	path, err := self()
	if err != nil {
		return nil, err
	}
	processes, err := startAll(ctx, answersOK("http://"+addresses[0]+"/health"), program{
		name: "etcd", path: path, dir: where.dir,
		args: []string{etcdCommand, where.dir, addresses[0], addresses[1]},
	})
	if err != nil {
		return nil, err
	}
	return networkStore(addresses[0], &generator.Etcd{Host: addresses[0]}, processes...), nil
}

// etcdServer serves until ctx ends. The arguments are a directory, the address for clients and the
// address for peers.
func etcdServer(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("etcd-server: want DIR CLIENT-ADDRESS PEER-ADDRESS")
	}
	config := embed.NewConfig()
	config.Dir = filepath.Join(args[0], "etcd")
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}
	client := []url.URL{{Scheme: "http", Host: args[1]}}
	peer := []url.URL{{Scheme: "http", Host: args[2]}}
	config.ListenClientUrls, config.AdvertiseClientUrls = client, client
	config.ListenPeerUrls, config.AdvertisePeerUrls = peer, peer
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return err
	}
}
