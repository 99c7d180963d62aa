package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/bench/capacity"
	"kvstore/bench/report"
)

// A capacityRun is the runs that the model is compared with.
type capacityRun struct {
	*programs
	server   *pgServer
	settings compareSettings
	dir      string
	points   []*capacityPoint
	wrong    error
}

// A capacityPoint is a number of backends with a delay.
type capacityPoint struct {
	backends          int
	delay             time.Duration
	roundTrip, commit float64 // seconds, as the backends see them
	rows              map[string]*row
	batch             float64 // writes of a transaction with many callers
}

func rowName(load string, connections int) string { return load + " " + strconv.Itoa(connections) }

func (r *capacityRun) measure(ctx context.Context, out io.Writer) error {
	for _, delay := range capacityDelays {
		for backends := 1; backends <= capacityBackends; backends++ {
			fmt.Fprintf(out, "%d backends, %s more round trip\n", backends, delay)
			p := &capacityPoint{backends: backends, delay: delay, rows: map[string]*row{}}
			if err := r.point(ctx, p, out); err != nil {
				return err
			}
			r.points = append(r.points, p)
		}
	}
	return nil
}

// point measures a point. The backends of other points are not running meanwhile.
func (r *capacityRun) point(ctx context.Context, p *capacityPoint, out io.Writer) (err error) {
	s := &postgresSide{r.programs, fmt.Sprintf("%d-backends-%s", p.backends, p.delay), r.server, p.backends, p.delay}
	dir := filepath.Join(r.dir, s.label)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	group, err := s.run(ctx, place{dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.stop()) }()
	if p.roundTrip, p.commit, err = r.probe(ctx, group.through, r.settings.duration); err != nil {
		return err
	}
	loads, err := chooseLoads([]string{"put", "get"})
	if err != nil {
		return err
	}
	plan := &plan{sides: []side{s}, loads: loads, duration: r.settings.duration, rounds: r.settings.rounds}
	for _, load := range loads {
		for _, connections := range []int{1, capacityCallers} {
			before, err := group.chain(ctx)
			if err != nil {
				return err
			}
			rows, err := plan.interleave(ctx, []*store{group.store}, load, connections)
			if err != nil {
				return err
			}
			p.rows[rowName(load.Name, connections)] = rows[0]
			after, err := group.chain(ctx)
			if err != nil {
				return err
			}
			if load.PutShare > 0 && connections > 1 {
				p.batch = float64(after.revision-before.revision) / float64(after.seq-before.seq)
			}
		}
		if err := plan.verify(ctx, []*store{group.store}, load); err != nil {
			return err
		}
	}
	for _, row := range p.rows {
		fmt.Fprintf(out, "  %s: %.0f/s\n", rowName(row.load.Name, row.connections), report.Median(row.rates))
		if row.result.Errors+row.result.Broken > 0 {
			r.wrong = errors.Join(r.wrong, fmt.Errorf("%s, %s: %s", s.label, row.load.Name, row.result.Error))
		}
	}
	r.wrong = errors.Join(r.wrong, errors.Join(plan.wrong...))
	return nil
}

// probe measures a round trip to the database, and a commit of one row.
func (r *capacityRun) probe(ctx context.Context, database string, d time.Duration) (roundTrip, commit float64, err error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(ctx) //nolint:errcheck // every statement has told
	if _, err := conn.Exec(ctx, "CREATE TABLE bench_probe (id bigint)"); err != nil {
		return 0, 0, err
	}
	median := func(statement string) (float64, error) {
		result, err := closedLoop(1, d, func(int) error {
			_, err := conn.Exec(ctx, statement)
			return err
		})
		return result.Latency.Quantile(0.5).Seconds(), err
	}
	if roundTrip, err = median("SELECT 1"); err != nil {
		return 0, 0, err
	}
	if commit, err = median("INSERT INTO bench_probe VALUES (1)"); err != nil {
		return 0, 0, err
	}
	_, err = conn.Exec(ctx, "DROP TABLE bench_probe")
	return roundTrip, commit, err
}

// A link is the last of the chain of commits.
type link struct{ seq, revision int64 }

func (g backendGroup) chain(ctx context.Context) (last link, err error) {
	conn, err := pgx.Connect(ctx, g.through)
	if err != nil {
		return last, err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is written
	const query = "SELECT seq, revision_after FROM commits ORDER BY seq DESC LIMIT 1"
	return last, conn.QueryRow(ctx, query).Scan(&last.seq, &last.revision)
}

// of returns the point of that many backends with that delay.
func (r *capacityRun) of(backends int, delay time.Duration) *capacityPoint {
	for _, p := range r.points {
		if p.backends == backends && p.delay == delay {
			return p
		}
	}
	return nil
}

func (p *capacityPoint) rate(load string, connections int) float64 {
	return report.Median(p.rows[rowName(load, connections)].rates)
}

// p50 returns seconds.
func (p *capacityPoint) p50(load string) float64 {
	return report.Median(p.rows[rowName(load, 1)].p50s) / 1e6
}

// work returns the processor time in seconds of the processes whose name begins so, for a request of many callers.
func (p *capacityPoint) work(load, name string) (seconds float64) {
	row := p.rows[rowName(load, capacityCallers)]
	for _, u := range row.cpu {
		if strings.HasPrefix(u.name, name) {
			seconds += row.perRequest(u.time) / 1e6
		}
	}
	return seconds
}

// step returns how long a transaction of many callers takes, in seconds: while one is under way the next one waits.
func (p *capacityPoint) step() float64 { return p.batch / p.rate("put", capacityCallers) }

// constants computes the constants from one backend without and with the longest delay, and the work of those
// that follow from two backends.
func (r *capacityRun) constants() capacity.Constants {
	near, far := r.of(1, capacityDelays[0]), r.of(1, capacityDelays[len(capacityDelays)-1])
	two := r.of(2, capacityDelays[0])
	more := far.roundTrip - near.roundTrip
	c := capacity.Constants{RoundTrip: near.roundTrip, Commit: near.commit}

	c.WriteTrips = (far.step()-near.step()-(far.commit-near.commit))/more + 1
	alone := (far.p50("put") - near.p50("put")) / more // round trips of a transaction of one write
	c.Row = max(0, (near.step()-near.p50("put")-(c.WriteTrips-alone)*near.roundTrip)/(near.batch-1))
	c.Step = max(0, near.step()-(c.WriteTrips-1)*near.roundTrip-near.commit-near.batch*c.Row)
	c.WriteBackend, c.WriteServer = near.work("put", "backend"), near.work("put", "postgres")
	c.WriteClient = near.work("put", "generator")
	c.FollowServer = max(0, two.work("put", "postgres")-c.WriteServer) * two.batch
	c.FollowOther = two.work("put", "backend-2") * two.batch

	c.ReadTrips = (far.p50("get") - near.p50("get")) / more
	c.Ask = max(0, near.p50("get")-c.ReadTrips*near.roundTrip)
	shared := capacity.Setup{Backends: 1, Callers: capacityCallers}.Shared()
	c.ReadBackend, c.ReadServer = near.work("get", "backend"), near.work("get", "postgres")*shared
	c.ReadClient = near.work("get", "generator")
	return c
}

// table compares the model with the runs.
func (r *capacityRun) table(c capacity.Constants) string {
	cells := make([][]string, 0, 1+2*len(r.points))
	cells = append(cells, []string{"backends", "round trip ms", "commit ms", "load", "writes of a commit", "by the model", "requests/s", "by the model", "error"})
	for _, p := range r.points {
		setup := capacity.Setup{Backends: p.backends, Callers: capacityCallers, RoundTrip: p.roundTrip, Commit: p.commit,
			Cores: float64(runtime.NumCPU()), OneMachine: true}
		for _, load := range []string{"put", "get"} {
			rate, model := p.rate(load, capacityCallers), c.Reads(setup)
			batch, modelBatch := "", ""
			if load == "put" {
				model = c.Writes(setup)
				batch, modelBatch = fmt.Sprintf("%.0f", p.batch), fmt.Sprintf("%.0f", setup.Batch())
			}
			cells = append(cells, []string{
				strconv.Itoa(p.backends), fmt.Sprintf("%.2f", p.roundTrip*1000), fmt.Sprintf("%.2f", p.commit*1000),
				load, batch, modelBatch, fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.0f", model), fmt.Sprintf("%+.0f %%", 100*(model/rate-1)),
			})
		}
	}
	return report.Table(cells)
}
