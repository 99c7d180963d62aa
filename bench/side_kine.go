package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"kvstore/bench/generator"
)

// kineModule is kine, which go install builds as it was released. In the requirements of this module,
// its hundreds of dependencies would decide about the versions of what the other sides use.
const kineModule = "github.com/k3s-io/kine@v0.17.5"

// kineSide is kine, which gives etcd's API to a database, on a PostgreSQL server.
type kineSide struct {
	*programs
	server *pgServer
}

func (*kineSide) name() string { return "kine" }

func (*kineSide) about() string {
	return "kine, etcd's API on the same PostgreSQL as postgres-sync, over gRPC. A write is a transaction on the " +
		"revision that the writer knows, as that of the Kubernetes API server, and each connection has its own keys: " +
		"kine's Put takes three statements and loses writes beside others"
}

func (s *kineSide) program() string { return filepath.Join(s.root, "bin", "kine") }

// version builds kine.
func (s *kineSide) version(ctx context.Context) (string, error) {
	install := exec.CommandContext(ctx, "go", "install", kineModule)
	install.Dir = os.TempDir() // of no module
	install.Env = append(os.Environ(), "GOBIN="+filepath.Dir(s.program()))
	if output, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: go install %s: %w\n%s", errNotInstalled, kineModule, err, output)
	}
	return kineModule, nil
}

func (s *kineSide) start(ctx context.Context, where place) (*store, error) {
	database, err := s.server.database(ctx)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	keys := &kineKeys{address: address, loads: map[string]*kineLoad{}}
	processes, err := startAll(ctx, keys.ready, program{name: "kine", path: s.program(), dir: where.dir, args: []string{
		"--listen-address", "tcp://" + address, "--endpoint", database, "--metrics-bind-address", "0",
	}})
	if err != nil {
		return nil, err
	}
	return &store{
		processes: processes, shared: s.server.processes, filled: map[string]bool{},
		connect: func(load generator.Load, connections int) (session, error) { return keys.connect(load, connections) },
		verify:  func(_ context.Context, load generator.Load) (string, error) { return keys.verify(load) },
	}, nil
}

// kineKeys is what is known about the keys.
type kineKeys struct {
	address string
	loads   map[string]*kineLoad
}

type kineLoad struct {
	generator.Load
	revisions []int64  // of the last acknowledged write of each key
	sequences []uint64 // in its value
	issued    atomic.Uint64
}

func (k *kineKeys) dial() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{k.address}, DialTimeout: startTimeout, Logger: zap.NewNop()})
}

func (k *kineKeys) ready(ctx context.Context) error {
	client, err := k.dial()
	if err != nil {
		return err
	}
	_, err = client.Get(ctx, "bench-ready")
	return errors.Join(err, client.Close())
}

func (k *kineKeys) connect(load generator.Load, connections int) (*kineSession, error) {
	known := k.loads[load.Name]
	if known == nil {
		known = &kineLoad{Load: load, revisions: make([]int64, load.Keys), sequences: make([]uint64, load.Keys)}
		k.loads[load.Name] = known
	}
	s := &kineSession{load: known}
	for range connections {
		client, err := k.dial()
		if err != nil {
			s.Close()
			return nil, err
		}
		s.clients = append(s.clients, client)
	}
	return s, nil
}

// verify reads every key.
func (k *kineKeys) verify(load generator.Load) (string, error) {
	s, err := k.connect(load, 1)
	if err != nil {
		return "", err
	}
	defer s.Close()
	for key := range load.Keys {
		if err := s.get(s.clients[0], key); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("each of %d keys has the last acknowledged write", load.Keys), nil
}

type kineSession struct {
	load    *kineLoad
	clients []*clientv3.Client
}

// patienceOfKine bounds a request.
const patienceOfKine = 20 * time.Second

func (s *kineSession) put(client *clientv3.Client, key int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfKine)
	defer cancel()
	name, known, sequence := s.load.Key(key), s.load.revisions[key], s.load.issued.Add(1)
	value := string(generator.AppendValue(nil, name, sequence))
	answer, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(name), "=", known)).
		Then(clientv3.OpPut(name, value)).Else(clientv3.OpGet(name)).Commit()
	if err != nil {
		return err
	}
	if !answer.Succeeded || answer.Header.Revision <= known {
		return &generator.WrongError{What: fmt.Sprintf("%s: revision %d after %d, succeeded: %v",
			name, answer.Header.Revision, known, answer.Succeeded)}
	}
	s.load.revisions[key], s.load.sequences[key] = answer.Header.Revision, sequence
	return nil
}

// get checks that a key has the last acknowledged write.
func (s *kineSession) get(client *clientv3.Client, key int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfKine)
	defer cancel()
	name := s.load.Key(key)
	answer, err := client.Get(ctx, name)
	if err != nil {
		return err
	}
	want := generator.AppendValue(nil, name, s.load.sequences[key])
	if len(answer.Kvs) != 1 || answer.Kvs[0].ModRevision != s.load.revisions[key] || !bytes.Equal(answer.Kvs[0].Value, want) {
		return &generator.WrongError{What: fmt.Sprintf("%s: want revision %d, value %s; got %v",
			name, s.load.revisions[key], want, answer.Kvs)}
	}
	return nil
}

// own returns the nearest key of those that only this worker uses.
func (s *kineSession) own(worker, key int) int {
	n := len(s.clients)
	if key = key/n*n + worker; key >= s.load.Keys {
		return worker
	}
	return key
}

// Fill writes every key once.
func (s *kineSession) Fill() error {
	var all sync.WaitGroup
	errs := make([]error, len(s.clients))
	for worker, client := range s.clients {
		all.Go(func() {
			for key := worker; key < s.load.Keys && errs[worker] == nil; key += len(s.clients) {
				errs[worker] = s.put(client, key)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *kineSession) Run(d time.Duration, pick generator.Picker) (generator.Result, error) {
	var mu sync.Mutex // guards pick
	return closedLoop(len(s.clients), d, func(worker int) error {
		mu.Lock()
		key, put := pick()
		mu.Unlock()
		if put {
			return s.put(s.clients[worker], s.own(worker, key))
		}
		return s.get(s.clients[worker], key)
	})
}

func (s *kineSession) Close() {
	for _, client := range s.clients {
		_ = client.Close() // every request has been answered
	}
}
