package proxy

import (
	"sync"
	"time"

	"kvstore/gateway/h1"
)

const (
	// Who checked the health within checkedLately is expected to check it again.
	checkedLately = 10 * time.Second
	leaveInterval = 20 * time.Millisecond
	// settleTime is for requests that a load balancer sent before it learned that this gateway
	// stops.
	settleTime = 250 * time.Millisecond
	mostPeers  = 1024
)

// checkers are the peers that ask /healthz, such as load balancers, and whether they were told
// that this gateway stops.
type checkers struct {
	mu    sync.Mutex // guards asked
	asked map[string]check
}

type check struct {
	at   time.Time
	told bool
}

func newCheckers() *checkers { return &checkers{asked: map[string]check{}} }

// note notes that peer asked, and whether it was told.
func (s *checkers) note(peer string, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) >= mostPeers {
		clear(s.asked)
	}
	s.asked[peer] = check{time.Now(), told}
}

// state counts the peers that asked after since and were not told, and those that were told.
func (s *checkers) state(since time.Time) (untold, told int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.asked {
		switch {
		case c.told:
			told++
		case c.at.After(since):
			untold++
		}
	}
	return untold, told
}

// leave goes on serving until all who ask /healthz were told that this gateway stops, for at most
// Config.DrainDelay: until then a load balancer sends requests here. Meanwhile every answer ends
// its connection, so that none is closed just when a request comes on it. If nobody asks, leave
// returns at once.
func (p *Proxy) leave() {
	began := time.Now()
	ticker := time.NewTicker(leaveInterval)
	defer ticker.Stop()
	for time.Since(began) < p.cfg.DrainDelay {
		untold, told := p.checkers.state(began.Add(-checkedLately))
		if untold == 0 && told == 0 {
			return
		}
		if untold == 0 {
			break
		}
		<-ticker.C
	}
	for settled := time.Now(); time.Since(settled) < settleTime && p.cfg.DrainDelay > 0; {
		<-ticker.C
	}
}

// answerAlive answers /healthz: the gateway runs, or is about to stop. It asks no backend.
func (h *handler) answerAlive(x *h1.Exchange) *h1.Answer {
	leaving := h.p.server.Leaving()
	h.p.checkers.note(h.ip, leaving)
	switch refused := readOnly(x); {
	case refused != nil:
		return refused
	case leaving:
		return unavailable("stopping", "The gateway is about to stop")
	}
	return jsonAnswer([]byte("{\"status\":\"ok\"}\n"))
}
