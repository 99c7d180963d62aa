package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/bench/generator"
)

// commitsSide is PostgreSQL without any of our programs: each write is a commit of one row.
type commitsSide struct{ server *pgServer }

func (commitsSide) name() string { return "commits" }

func (commitsSide) about() string {
	return "PostgreSQL alone: each write is a transaction of one INSERT of a key and a value with pgx, each connection one of its own"
}

func (s commitsSide) version(ctx context.Context) (string, error) { return s.server.version(ctx) }

func (s commitsSide) start(ctx context.Context, _ place) (*store, error) {
	database, err := s.server.database(ctx)
	if err != nil {
		return nil, err
	}
	rows := &committedRows{database: database}
	started := &store{
		shared: s.server.processes,
		filled: map[string]bool{},
		connect: func(load generator.Load, connections int) (session, error) {
			if load.PutShare < 1 {
				return nil, errUnfit
			}
			return rows.connect(ctx, load, connections)
		},
		fill: func(load generator.Load) error {
			if load.PutShare < 1 {
				return nil
			}
			return rows.create(ctx)
		},
	}
	started.verify = func(ctx context.Context, load generator.Load) (string, error) {
		if load.PutShare < 1 {
			return "", nil
		}
		return rows.verify(ctx)
	}
	return started, nil
}

// committedRows is a table of single rows.
type committedRows struct {
	database     string
	acknowledged uint64
}

func (r *committedRows) create(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement has told
	_, err = conn.Exec(ctx, "CREATE TABLE rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, value bytea)")
	return err
}

func (r *committedRows) verify(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, r.database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is written
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM rows").Scan(&n); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d rows acknowledged and there", n), between("the number of rows", n, r.acknowledged, 0)
}

func (r *committedRows) connect(ctx context.Context, load generator.Load, connections int) (session, error) {
	s := &commitSession{ctx: ctx, rows: r, load: load}
	for range connections {
		conn, err := pgx.Connect(ctx, r.database)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.conns = append(s.conns, conn)
	}
	return s, nil
}

type commitSession struct {
	ctx   context.Context //nolint:containedctx // of the whole run
	rows  *committedRows
	load  generator.Load
	conns []*pgx.Conn
}

// Fill is not used: the table is filled by its first run.
func (s *commitSession) Fill() error { return errors.ErrUnsupported }

func (s *commitSession) Run(d time.Duration, _ generator.Picker) (generator.Result, error) {
	issued := make([]int, len(s.conns))
	result, err := closedLoop(len(s.conns), d, func(worker int) error {
		key := s.load.Key(issued[worker] % s.load.Keys)
		value := generator.AppendValue(nil, key, uint64(issued[worker]))
		issued[worker]++
		tag, err := s.conns[worker].Exec(s.ctx, "INSERT INTO rows (key, value) VALUES ($1, $2)", key, value)
		if err == nil && tag.RowsAffected() != 1 {
			err = &generator.WrongError{What: tag.String()}
		}
		return err
	})
	s.rows.acknowledged += result.Requests
	return result, err
}

func (s *commitSession) Close() {
	for _, conn := range s.conns {
		_ = conn.Close(s.ctx) // every statement has been answered
	}
}
