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

// startTimeout bounds the time from the start of a side to its first answer.
const startTimeout = 60 * time.Second

// A side is a store, or an arrangement of programs, that is compared with others.
type side interface {
	name() string
	// about describes the side in one line.
	about() string
	// version returns the versions of its programs, or errNotInstalled if one is missing.
	version(ctx context.Context) (string, error)
	// start starts the side with an empty store and waits until it answers.
	start(ctx context.Context, where place) (*store, error)
}

var errNotInstalled = errors.New("not installed")

// sides returns all sides in the order of the table. The hops come first.
func sides(ours *programs) []side {
	return []side{
		&backendSide{ours}, &gatewaySide{ours}, &traefikSide{ours}, &nginxSide{ours},
		&predecessorSide{ours, false}, &predecessorSide{ours, true},
		etcdSide{members: 1}, redisSide{}, sqliteSide{},
	}
}

// A place holds the settings for starting a side.
type place struct {
	dir       string // an empty directory of its own
	cacheKeys int    // capacity of our backend's cache; 0 means the default
}

// A store is a running side.
type store struct {
	processes []*process // in the order of their start
	shared    []*process // that other sides use too; only their processor time counts
	connect   func(load generator.Load, connections int) (session, error)
	filled    map[string]bool
	known     knownKeys // of what the generator reaches at an address
	// fill, if set, replaces the usual way to write every key of a load once.
	fill func(load generator.Load) error
	// verify, if set, finally compares the contents of the store with what it has acknowledged,
	// and returns the result as a sentence. A *generator.WrongError means that the store is
	// wrong.
	verify func(ctx context.Context, load generator.Load) (string, error)
}

// A session is a number of connections to a store.
type session interface {
	// Fill writes every key of the load once.
	Fill() error
	// Run sends requests for a duration.
	Run(d time.Duration, pick generator.Picker) (generator.Result, error)
	Close()
}

// stop stops the processes in reverse order.
func (s *store) stop() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].stop())
	}
	return errors.Join(errs...)
}

// session connects, and fills the store if this load is new to it.
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

// networkStore returns a store that the generator reaches at an address.
func networkStore(address string, codec generator.Codec, processes ...*process) *store {
	known := knownKeys{}
	return &store{
		processes: processes,
		filled:    map[string]bool{},
		known:     known,
		connect: func(load generator.Load, connections int) (session, error) {
			return generator.Open([]string{address}, codec, known.of(load), connections)
		},
	}
}

// knownKeys maps the name of a load to its keys in one store.
type knownKeys map[string]*generator.Keys

func (k knownKeys) of(load generator.Load) *generator.Keys {
	if k[load.Name] == nil {
		k[load.Name] = generator.NewKeys(load)
	}
	return k[load.Name]
}

// startAll starts the programs and waits until ready returns nil. If that fails, it stops them.
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
			return fail(fmt.Errorf("no answer: %w", err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answersOK returns a function that checks that GET url is answered with 200.
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

// freeAddress returns a free address on the loopback interface.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// freeAddresses returns n different free addresses.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	addresses := make([]string, 0, n)
	for range n {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address) // the kernel does not repeat a port so soon
	}
	return addresses, nil
}

// self returns the path of this program, which some sides run as a separate process.
func self() (string, error) { return os.Executable() }
