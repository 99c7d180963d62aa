package main_test

import (
	"fmt"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestClusterPatroni changes the leader of three PostgreSQL servers under load, by request and with kill -9. The
// operations of the clients are linearizable, so nothing that was acknowledged is lost and no version
// stands twice, and the outage ends when Patroni has a new leader.
func TestClusterPatroni(t *testing.T) {
	onlyLong(t)
	servers := postgrestest.StartPatroni(t)
	c := startCluster(t, backendProgram(t), servers.URL("postgres"))
	h := newHistory()
	for _, event := range []struct {
		name string
		do   func(testing.TB)
		most time.Duration // of the outage
	}{
		{"switchover", servers.Switchover, postgrestest.PatroniTTL},
		{"kill -9 of the leader", servers.KillLeader, 3 * postgrestest.PatroniTTL},
		{"switchover", servers.Switchover, postgrestest.PatroniTTL},
		{"kill -9 of the leader", servers.KillLeader, 3 * postgrestest.PatroniTTL},
	} {
		servers.AwaitComplete(t)
		count := newTally()
		stop := c.linearLoad(t, h, count)
		written := func() time.Time {
			count.mu.Lock()
			defer count.mu.Unlock()
			return count.written
		}
		time.Sleep(linearWindow)
		event.do(t)
		for led, end := time.Now(), time.Now().Add(linearWindow); time.Now().Before(end); {
			eventually(t, "a write succeeds", func() error {
				if written().Before(led) {
					return fmt.Errorf("the last one did at %s", written())
				}
				return nil
			})
			time.Sleep(linearWindow / 4)
		}
		stop()
		if count.outage > event.most {
			t.Errorf("%s: %s without a write", event.name, count.outage)
		}
		report(t, "%s: %s", event.name, count)
	}
	c.checkLinear(t, h)
	report(t, "all of that is linearizable")
}
