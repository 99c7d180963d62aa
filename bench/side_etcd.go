package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"

	"kvstore/bench/generator"
)

// etcdSide is an etcd with one member, or with three, whose leader is asked. Each is a process.
type etcdSide struct{ members int }

func (s etcdSide) name() string {
	if s.members == 1 {
		return "etcd"
	}
	return fmt.Sprintf("etcd-%d", s.members)
}

func (s etcdSide) about() string {
	members := "with one member"
	if s.members > 1 {
		members = fmt.Sprintf("with %d members, asked at its leader", s.members)
	}
	return "etcd " + members + ", embedded in a separate process, over its JSON gateway (/v3/kv/put and /v3/kv/range); fsync on; linearizable reads; keeps versions until compaction"
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

func (s etcdSide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 2*s.members)
	if err != nil {
		return nil, err
	}
	path, err := self()
	if err != nil {
		return nil, err
	}
	clients, peers := addresses[:s.members], addresses[s.members:]
	members := make([]string, 0, s.members)
	for i, peer := range peers {
		members = append(members, fmt.Sprintf("etcd-%d=http://%s", i+1, peer))
	}
	wanted := make([]program, 0, s.members)
	for i := range members {
		name, _, _ := strings.Cut(members[i], "=")
		wanted = append(wanted, program{name: name, path: path, dir: where.dir, args: []string{
			etcdCommand, filepath.Join(where.dir, name), name, clients[i], peers[i], strings.Join(members, ","),
		}})
	}
	var leader string
	processes, err := startAll(ctx, func(ctx context.Context) (err error) {
		leader, err = etcdLeader(ctx, clients)
		return err
	}, wanted...)
	if err != nil {
		return nil, err
	}
	return networkStore(leader, &generator.Etcd{Host: leader}, processes...), nil
}

// etcdLeader returns the address of the leader, when every member knows it.
func etcdLeader(ctx context.Context, addresses []string) (leader string, err error) {
	for _, address := range addresses {
		if err := answersOK("http://" + address + "/health")(ctx); err != nil {
			return "", err
		}
		var status struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		if err := postJSON(ctx, "http://"+address+"/v3/maintenance/status", &status); err != nil {
			return "", err
		}
		if status.Leader == status.Header.Member {
			leader = address
		}
	}
	if leader == "" {
		err = errors.New("etcd has no leader yet")
	}
	return leader, err
}

// postJSON sends an empty object and decodes the answer.
func postJSON(ctx context.Context, url string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(answer)
}

// etcdServer serves as a member until ctx ends. The arguments are a directory, the name of the member, its
// address for clients, its address for peers, and all members.
func etcdServer(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return errors.New("etcd-server: want DIR NAME CLIENT-ADDRESS PEER-ADDRESS MEMBERS")
	}
	config := embed.NewConfig()
	config.Dir, config.Name = args[0], args[1]
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}
	client := []url.URL{{Scheme: "http", Host: args[2]}}
	peer := []url.URL{{Scheme: "http", Host: args[3]}}
	config.ListenClientUrls, config.AdvertiseClientUrls = client, client
	config.ListenPeerUrls, config.AdvertisePeerUrls = peer, peer
	config.InitialCluster = args[4]
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
