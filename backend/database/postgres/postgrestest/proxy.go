package postgrestest

import (
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

	mu      sync.Mutex // guards the fields below
	links   map[*link]struct{}
	refuses bool
	left    [2]int // how many bytes may still pass, if limited
	limited [2]bool
}

// A link is a connection of a client and its connection to the server.
type link struct{ client, server net.Conn }

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

// Passes reports whether everything passes: what CutAfter has asked for has happened. If not, it is called off.
func (p *Proxy) Passes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limited := p.limited[ToServer] || p.limited[ToClient]
	p.limited = [2]bool{}
	return !limited
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
	l := &link{client, server}
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.refuses {
		l.close()
	}
	p.mu.Unlock()
	var answers sync.WaitGroup
	answers.Go(func() { p.copy(client, server, ToClient) })
	p.copy(server, client, ToServer)
	answers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) copy(to, from net.Conn, d Direction) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		passing := p.pass(d, n)
		if _, writeErr := to.Write(buffer[:passing]); err != nil || writeErr != nil || passing < n {
			return
		}
	}
}

// pass returns how many of the next n bytes pass.
func (p *Proxy) pass(d Direction, n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
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
