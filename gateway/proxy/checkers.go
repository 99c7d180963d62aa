package proxy

import (
	"sync"
	"time"

	"kvstore/gateway/h1"
)

const (
	// checkedLately is how long ago a health check may be to be expected again.
	checkedLately = 10 * time.Second
	leaveInterval = 20 * time.Millisecond
	// settleTime is for requests that a load balancer had sent on their way when it
	// learned that this gateway stops.
	settleTime = 250 * time.Millisecond
	mostPeers  = 1024
)

// checkers are the peers that ask /healthz, as a load balancer does, and whether
// they know that this gateway stops.
type checkers struct {
	mu    sync.Mutex // guards asked
	asked map[string]check
}

type check struct {
	at   time.Time
	told bool
}

func newCheckers() *checkers { return &checkers{asked: map[string]check{}} }

// note says that peer has asked, and whether it was told.
func (s *checkers) note(peer string, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) >= mostPeers {
		clear(s.asked)
	}
	s.asked[peer] = check{time.Now(), told}
}

// state counts those who have asked lately and do not know, and those who do.
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

// leave goes on serving until whoever asks /healthz has been told that this gateway
// stops, for drainDelay at most: till then a load balancer sends requests here, and
// would have to answer for connections that are refused. Every answer ends its
// connection meanwhile, so that none is closed just when a request comes on it. With
// nobody who asks it returns at once.
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

// answerAlive says that the gateway runs, or that it is about to stop; it asks nobody.
func (h *handler) answerAlive(x *h1.Exchange) *h1.Answer {
	leaving := h.p.server.Leaving()
	h.p.checkers.note(h.ip, leaving)
	switch refusal := readOnly(x); {
	case refusal != nil:
		return refusal
	case leaving:
		return unavailable("stopping", "The gateway is about to stop")
	}
	return jsonAnswer([]byte("{\"status\":\"ok\"}\n"))
}
