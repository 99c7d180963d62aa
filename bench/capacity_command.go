package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"kvstore/bench/capacity"
	"kvstore/bench/report"
)

const capacityHelp = `go run . capacity measures 1, 2 and 3 backends on PostgreSQL, with a longer round trip to it as
well, and compares the model of package capacity with them. --keep makes the result the
constants and the picture in the directory capacity. --draw only draws the picture again.
`

// capacityDelays are added to a round trip. The first and the last are those of the constants.
var capacityDelays = []time.Duration{0, time.Millisecond, 5 * time.Millisecond}

const (
	capacityBackends = 3
	capacityCallers  = 64
)

func capacityCommand(ctx context.Context, args []string, out io.Writer) (err error) {
	var s compareSettings
	var keep, draw bool
	flags := newFlags(" capacity", capacityHelp, out)
	s.define(flags, time.Second, 3)
	flags.StringVar(&s.dir, "dir", "",
		"directory for the data of the servers, on the disk to measure; if empty, the directory for temporary files")
	flags.StringVar(&s.root, "root", "..", "the root of the repository")
	flags.BoolVar(&keep, "keep", false, "make the result the constants and the picture in capacity")
	flags.BoolVar(&draw, "draw", false, "only draw the picture in capacity again")
	if err := s.parse(flags, args); err != nil {
		return err
	}
	if draw {
		c, err := capacity.Measured()
		return errors.Join(err, keepCapacity(c))
	}
	fmt.Fprintln(out, "building")
	ours, err := build(ctx, s.root)
	if err != nil {
		return err
	}
	dir, remove, err := temporary(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = remove(err, out) }()
	machine, started := report.Machine(dir), time.Now()
	server, err := startPostgres(ctx, dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	r := &capacityRun{programs: ours, server: server, settings: s, dir: dir}
	if err := r.measure(ctx, out); err != nil {
		return err
	}
	c := r.constants()
	c.Machine = machine[0]
	table := r.table(c)
	fmt.Fprintf(out, "\n%s", table)
	page := fmt.Sprintf("# Capacity, %s\n\n%s\n- %s\n\n", started.Format("2006-01-02 15:04 MST"), bullets(machine), ours.commit)
	page += table
	if err := report.Write(s.out, started, "capacity", page, capacity.Draw(c, capacity.PictureCores), out); err != nil {
		return err
	}
	if keep {
		err = keepCapacity(c)
	}
	return errors.Join(err, r.wrong)
}

func bullets(lines []string) string { return "- " + strings.Join(lines, "\n- ") + "\n" }

// keepCapacity writes the constants and the picture, which are checked in.
func keepCapacity(c capacity.Constants) error {
	text, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile("capacity/measured.json", append(text, '\n'), 0o644),
		os.WriteFile("capacity/capacity.svg", []byte(capacity.Draw(c, capacity.PictureCores)), 0o644))
}
