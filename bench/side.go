package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"kvstore/bench/generator"
)

// startTimeout is how long a side may take from its start to its first answer.
const startTimeout = 60 * time.Second

// A side is one of the stores, or arrangements of programs, that are compared.
type side interface {
	name() string
	// about says in one line what it is and does.
	about() string
	// version returns which programs it runs; errNotInstalled when one is
	// missing.
	version(ctx context.Context) (string, error)
	// start starts the side with an empty store and waits until it answers.
	start(ctx context.Context, where place) (*store, error)
}

var errNotInstalled = errors.New("not installed")

// sides are all sides, in the order of the table. The hops stand first.
func sides(ours *programs) []side {
	return []side{
		&backendSide{ours}, &gatewaySide{ours}, &traefikSide{ours}, &nginxSide{ours},
		&predecessorSide{ours, false}, &predecessorSide{ours, true},
		etcdSide{}, redisSide{}, sqliteSide{},
	}
}

// A place is where and how a side starts.
type place struct {
	dir       string // empty, and its alone
	cacheKeys int    // the bound of the cache of our backend; 0 is its default
}

// A store is a side that runs.
type store struct {
	processes []*process // in the order of their start
	connect   func(load generator.Load, connections int) (session, error)
	filled    map[string]bool
	known     knownKeys // of what the generator reaches at an address
	// fill, when set, writes every key of a load once in a way of its own.
	fill func(load generator.Load) error
	// verify, when set, compares what the store holds in the end with what it
	// has acknowledged, and says in a sentence what was found. An error that is
	// a *generator.WrongError means that the store is wrong.
	verify func(ctx context.Context, load generator.Load) (string, error)
}

// A session is a number of connections to a store.
type session interface {
	// Fill writes every key of the load once.
	Fill() error
	// Run sends requests for that time.
	Run(d time.Duration, pick generator.Picker) (generator.Result, error)
	Close()
}

// stop stops the processes, the last one first.
func (s *store) stop() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].stop())
	}
	return errors.Join(errs...)
}

// session connects, and fills the store when that load has not been there yet.
func (s *store) session(load generator.Load, connections int) (session, error) {
	if !s.filled[load.Name] {
		fill := s.fill
		if fill == nil {
			fill = s.fillOverConnections
		}
		if err := fill(load); err != nil {
			return nil, fmt.Errorf("fill: %w", err)
		}
		s.filled[load.Name] = true
	}
	return s.connect(load, connections)
}

func (s *store) fillOverConnections(load generator.Load) error {
	first, err := s.connect(load, fillConnections)
	if err != nil {
		return err
	}
	defer first.Close()
	return first.Fill()
}

const fillConnections = 64

// networkStore is a store that the generator reaches at an address.
func networkStore(address string, codec generator.Codec, processes ...*process) *store {
	known := knownKeys{}
	return &store{
		processes: processes,
		filled:    map[string]bool{},
		known:     known,
		connect: func(load generator.Load, connections int) (session, error) {
			return generator.Open(address, codec, known.of(load), connections)
		},
	}
}

// knownKeys are the keys of each load in one store, by the name of the load.
type knownKeys map[string]*generator.Keys

func (k knownKeys) of(load generator.Load) *generator.Keys {
	if k[load.Name] == nil {
		k[load.Name] = generator.NewKeys(load)
	}
	return k[load.Name]
}

// startAll starts the programs and waits until ready returns nil. When that
// fails it stops what it has started.
func startAll(ctx context.Context, ready func(ctx context.Context) error, wanted ...program) ([]*process, error) {
	s := &store{}
	fail := func(err error) ([]*process, error) { return nil, errors.Join(err, s.stop()) }
	for _, p := range wanted {
		started, err := start(p)
		if err != nil {
			return fail(err)
		}
		s.processes = append(s.processes, started)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return s.processes, nil
		}
		for _, p := range s.processes {
			if p.ended() {
				return fail(fmt.Errorf("%s has ended", p.name))
			}
		}
		select {
		case <-ctx.Done():
			return fail(fmt.Errorf("it does not answer: %w", err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answersOK returns a check that GET url is answered by 200.
func answersOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}

// freeAddress returns an address on the loopback that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// freeAddresses returns n different ones.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	addresses := make([]string, 0, n)
	for range n {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address) // the kernel does not repeat one so soon
	}
	return addresses, nil
}

// self is this program, which some sides run as a process of their own.
func self() (string, error) { return os.Executable() }
