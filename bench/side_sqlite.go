package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"

	"kvstore/bench/generator"
)

// sqliteSide is SQLite without a server: the upper limit for the disk, SQLite and its driver. It
// runs in a separate process, so that its processor time is measured like that of the others.
type sqliteSide struct{}

func (sqliteSide) name() string { return "sqlite" }

func (sqliteSide) about() string {
	return "the upper limit, without a server: mattn/go-sqlite3, WAL and synchronous=FULL; for N connections, transactions of N rows, and N point reads at once, at most one per core"
}

func (sqliteSide) version(context.Context) (string, error) {
	version, _, _ := sqlite3.Version()
	return "SQLite " + version + ", mattn/go-sqlite3 " + moduleVersion("github.com/mattn/go-sqlite3"), nil
}

// sqliteCommand is the argument that makes this program run loads on SQLite.
const sqliteCommand = "sqlite-loads"

// An order tells the process what to do next. It answers with an orderReport.
type order struct {
	Load        string
	Connections int
	Fill        bool
	Duration    time.Duration
}

type orderReport struct {
	Result generator.Result
	Error  string
}

func (sqliteSide) start(_ context.Context, where place) (*store, error) {
	path, err := self()
	if err != nil {
		return nil, err
	}
	in, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close() // the process has its own copy
	reports, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close())
	}
	defer out.Close()
	running, err := start(program{
		name: "sqlite", path: path, dir: where.dir, args: []string{sqliteCommand, where.dir}, stdin: in, stdout: out,
	})
	if err != nil {
		return nil, errors.Join(err, orders.Close(), reports.Close())
	}
	go func() {
		<-running.done
		_ = orders.Close()
		_ = reports.Close()
	}()
	encoder, decoder := json.NewEncoder(orders), json.NewDecoder(bufio.NewReader(reports))
	ask := func(o order) (generator.Result, error) {
		if err := encoder.Encode(o); err != nil {
			return generator.Result{}, err
		}
		var r orderReport
		if err := decoder.Decode(&r); err != nil {
			return generator.Result{}, fmt.Errorf("%w\n%s", err, running.tail())
		}
		if r.Error != "" {
			return generator.Result{}, errors.New(r.Error)
		}
		return r.Result, nil
	}
	return &store{
		processes: []*process{running},
		filled:    map[string]bool{},
		connect: func(load generator.Load, connections int) (session, error) {
			if load.PutShare > 0 && load.PutShare < 1 {
				return nil, errUnfit
			}
			return &sqliteSession{ask: ask, load: load.Name, connections: connections}, nil
		},
	}, nil
}

// errUnfit means that a side does not support a load.
var errUnfit = errors.New("this side does not support the load")

// A sqliteSession sends orders to the process.
type sqliteSession struct {
	ask         func(order) (generator.Result, error)
	load        string
	connections int
}

func (s *sqliteSession) Fill() error {
	_, err := s.ask(order{Load: s.load, Connections: s.connections, Fill: true})
	return err
}

// Run leaves the choice of keys to the process.
func (s *sqliteSession) Run(d time.Duration, _ generator.Picker) (generator.Result, error) {
	return s.ask(order{Load: s.load, Connections: s.connections, Duration: d})
}

func (s *sqliteSession) Close() {}

// sqliteLoads executes the orders from in. The argument is a directory.
func sqliteLoads(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New(sqliteCommand + ": want DIR")
	}
	db, err := openSQLite(ctx, filepath.Join(args[0], "ceiling.db"))
	if err != nil {
		return err
	}
	defer db.close()
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		result, err := db.do(ctx, o)
		r := orderReport{Result: result}
		if err != nil {
			r.Error = err.Error()
		}
		if err := reports.Encode(r); err != nil {
			return err
		}
	}
}
