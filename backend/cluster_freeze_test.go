package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

const (
	frozenRounds = 40
	// frozenMost is by how much a frozen backend may make the slowest write of the others slower.
	frozenMost = 100 * time.Millisecond
)

// TestClusterFrozenBackend stops one backend with SIGSTOP at random moments of its writes, while two others
// write too. Their slowest write must be about as slow as without that: the moments alternate with as
// many at which nothing is stopped. The slowest of all is left some room, since the machine's own pauses
// make it.
func TestClusterFrozenBackend(t *testing.T) {
	onlyLong(t)
	server := postgrestest.Server(t, nil)
	c := startCluster(t, backendProgram(t), server.URL("postgres"))
	victim, count := c.backends[0], newTally()
	load := func(where site, each *tally) (stop func()) {
		return clients(t, 4, func(ctx context.Context, client, number int) error {
			began := time.Now()
			status, body, err := where.exchange(context.WithoutCancel(ctx), "PUT", fmt.Sprintf("/put/k%d", rand.IntN(50)), `{"value":1}`)
			if err == nil {
				err = failureOf(status, body)
			}
			each.note(err, true, began)
			count.note(err, true, began)
			return err
		})
	}
	stop := load(victim.site, newTally())
	var slowest [2][]time.Duration // writes of the others, by whether the victim stands still
	for range frozenRounds {
		for frozen := range slowest {
			others := newTally()
			time.Sleep(rand.N(50 * time.Millisecond)) // a random moment
			if frozen == 1 {
				victim.signal(t, syscall.SIGSTOP)
			}
			stops := []func(){load(c.backends[1].site, others), load(c.backends[2].site, others)}
			time.Sleep(700 * time.Millisecond)
			for _, stop := range stops {
				stop()
			}
			if frozen == 1 {
				victim.signal(t, syscall.SIGCONT)
			}
			slowest[frozen] = append(slowest[frozen], others.slowest)
		}
	}
	stop()
	noise, stopped := summarize(slowest[0]), summarize(slowest[1])
	if stopped.median > noise.median+frozenMost || stopped.worst > noise.worst*3/2+frozenMost {
		t.Errorf("the slowest write of a round takes %s while a backend stands still, else %s", stopped, noise)
	}
	report(t, "%d times SIGSTOP: the slowest write of the others took %s; without it %s; %s", frozenRounds, stopped, noise, count)
}

type summary struct{ median, worst time.Duration }

func summarize(all []time.Duration) summary {
	slices.Sort(all)
	return summary{all[len(all)/2], all[len(all)-1]}
}

func (s summary) String() string {
	return fmt.Sprintf("%d ms in the median, %d ms at worst", s.median.Milliseconds(), s.worst.Milliseconds())
}

func (n *node) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := n.process.cmd.Process.Signal(signal); err != nil {
		t.Error(err)
	}
}
