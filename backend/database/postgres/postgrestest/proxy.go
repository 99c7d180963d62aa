package postgrestest

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A Direction is that of bytes between the clients and the server of a Proxy.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// A Proxy forwards connections to a server, and cuts them as it is told.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup
	silent   sync.RWMutex // while it is locked nothing is delivered

	mu      sync.Mutex // guards the fields below
	links   map[*link]struct{}
	refuses bool
	left    [2]int // how many bytes may still pass, if limited
	limited [2]bool
	text    []byte // of LoseAnswer, or nil
}

// A link is a connection of a client and its connection to the server.
type link struct {
	client, server net.Conn
	unanswered     bool // its next answer is lost; guarded by Proxy.mu
}

// StartProxy starts a proxy of the server that the URL names, until the test ends. It returns the URL of
// the database by way of it.
func StartProxy(t testing.TB, database string) (proxy *Proxy, through string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it takes no time
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: u.Host, links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close() // that is what ends accept
		p.Refuse(true)
		p.running.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

// Refuse cuts all connections and refuses new ones, or accepts them again.
func (p *Proxy) Refuse(refuses bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = refuses
	if refuses {
		p.cutLocked()
	}
}

// Cut cuts all connections. New ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for l := range p.links {
		l.close()
	}
}

// CutAfter lets n more bytes pass in a direction, of whichever connection, and then cuts the connection of
// the next one. After that everything passes.
func (p *Proxy) CutAfter(d Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left[d], p.limited[d] = n, true
}

// LoseAnswer lets the next message that has that text pass to the server, and cuts its connection in place of the
// answer. After that everything passes.
func (p *Proxy) LoseAnswer(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = []byte(text)
}

// Passes reports whether everything passes: what CutAfter and LoseAnswer have asked for has happened. If not, it is
// called off.
func (p *Proxy) Passes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	passes := !p.limited[ToServer] && !p.limited[ToClient] && p.text == nil
	p.limited, p.text = [2]bool{}, nil
	return passes
}

// Silence delivers nothing, on whichever connection, until end is called.
func (p *Proxy) Silence() (end func()) {
	p.silent.Lock()
	return p.silent.Unlock
}

// Links returns how many connections there are.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.forward(client) })
	}
}

func (p *Proxy) forward(client net.Conn) {
	server, err := net.Dial("tcp", p.target) //nolint:noctx // on this machine it takes no time
	if err != nil {
		_ = client.Close() // nothing was sent
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.refuses {
		l.close()
	}
	p.mu.Unlock()
	var answers sync.WaitGroup
	answers.Go(func() { p.copy(l, client, server, ToClient) })
	p.copy(l, server, client, ToServer)
	answers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) copy(l *link, to, from net.Conn, d Direction) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.silent.RLock()
		passing := p.pass(l, d, buffer[:n])
		_, writeErr := to.Write(buffer[:passing])
		p.silent.RUnlock()
		if err != nil || writeErr != nil || passing < n {
			return
		}
	}
}

// pass returns how many of the next bytes pass.
func (p *Proxy) pass(l *link, d Direction, next []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(next)
	switch {
	case d == ToClient && l.unanswered:
		return 0
	case d == ToServer && p.text != nil && bytes.Contains(next, p.text):
		l.unanswered, p.text = true, nil
	}
	if !p.limited[d] || n <= p.left[d] {
		p.left[d] -= n
		return n
	}
	p.limited[d] = false
	return p.left[d]
}

func (l *link) close() {
	_ = l.client.Close() // it is cut
	_ = l.server.Close() // it is cut
}
