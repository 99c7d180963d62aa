package telemetry_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

const patience = 10 * time.Second

// serving serves handler, and disconnects clients that do not read for timeout.
func serving(t *testing.T, timeout time.Duration, handler http.HandlerFunc) (address string, log *telemetrytest.Journal) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &telemetrytest.Journal{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- telemetry.ServeWithin(ctx, listener, telemetry.Requests(handler, logger), logger, timeout)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), log
}

func dial(t *testing.T, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %s: %s", patience, what)
		panic("unreachable")
	}
}

// A complete request is answered even if its client has closed its sending side.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	address, _ := serving(t, patience, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		half, stop := telemetry.HalfClosed(r.Context())
		defer stop()
		<-half.Done()
		select {
		case <-r.Context().Done():
			t.Errorf("%s was cancelled", r.RequestURI)
		case <-time.After(50 * time.Millisecond): // in which it could be
		}
		fmt.Fprintf(w, "%s %d.", r.RequestURI, len(body))
	})
	for raw, want := range map[string][]string{
		"GET /a HTTP/1.1\r\nHost: h\r\n\r\n":                                                       {"200 /a 0."},
		"GET /b HTTP/1.0\r\n\r\n":                                                                  {"200 /b 0."},
		"PUT /c HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc":                               {"200 /c 3."},
		"PUT /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n":      {"200 /d 1."},
		"PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n" + strings.Repeat("x", 90000): {"200 /e 90000."},
		"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabc":                               {"400 "},
	} {
		t.Run(raw[:6], func(t *testing.T) {
			conn, r := dial(t, address)
			if _, err := io.WriteString(conn, raw); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			for _, want := range want {
				response, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if got := fmt.Sprintf("%d %s", response.StatusCode, body); err != nil || got != want {
					t.Errorf("%q, %v, want %q", got, err, want)
				}
			}
			if b, err := r.ReadByte(); err != io.EOF {
				t.Errorf("%q, %v after the answer", b, err)
			}
		})
	}
}

// A client that resets its connection has gone away.
func TestResetEndsTheRequest(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan error)
	address, _ := serving(t, patience, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- r.Context().Err()
	})
	for _, raw := range []string{
		"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	} {
		conn, _ := dial(t, address)
		fmt.Fprint(conn, raw)
		receive(t, "the request", arrived)
		if err := conn.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		receive(t, "the end of the request", gone)
	}
}

// A refusal reaches a client that sends everything before it reads, and announces the end
// of the connection.
func TestRefusalsReachAClientThatSendsFirst(t *testing.T) {
	address, _ := serving(t, patience, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.CopyN(io.Discard, r.Body, 5<<20)
		}
		if r.URL.Path != "/silent" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	const size = 10 << 20
	body := strings.Repeat("x", size)
	known := fmt.Sprintf("Host: h\r\nContent-Length: %d\r\n\r\n", size)
	chunked := fmt.Sprintf("Host: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", size)
	for head, status := range map[string]int{
		"PUT /a HTTP/1.1\r\n" + known:                                           413,
		"PUT /a HTTP/1.1\r\n" + chunked:                                         413,
		"PUT /half HTTP/1.1\r\n" + known:                                        413,
		"PUT /half HTTP/1.1\r\n" + chunked:                                      413,
		"PUT /silent HTTP/1.1\r\n" + known:                                      200,
		"PUT /a HTTP/1.1\r\nBad Header: x\r\n" + known:                          400,
		"PUT /a HTTP/1.1\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n" + known: 431,
		"PUT /a HTTP/3.0\r\n" + known:                                           505,
		"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n":         501,
	} {
		t.Run(head[:min(len(head), 40)], func(t *testing.T) {
			conn, r := dial(t, address)
			if _, err := io.WriteString(conn, head+body); err != nil {
				t.Fatalf("the client is not heard to the end: %v", err)
			}
			response, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != status || !response.Close {
				t.Errorf("%s, close %t, %v", response.Status, response.Close, err)
			}
		})
	}
}

// A refusal does not wait for a client that pauses, and keeps the connection if a small
// body has already arrived.
func TestRefusalWithinABody(t *testing.T) {
	address, _ := serving(t, patience, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	for _, raw := range []string{
		"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc",
		"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc",
		"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		conn, r := dial(t, address)
		fmt.Fprint(conn, raw)
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusForbidden || !response.Close {
			t.Errorf("%q: %s, close %t", raw, response.Status, response.Close)
		}
	}
	conn, r := dial(t, address)
	for range 3 {
		fmt.Fprint(conn, "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != http.StatusForbidden || response.Close {
			t.Fatalf("%v %v", response, err)
		}
	}
}

// A client that does not read its answer is disconnected, however the answer is written. A
// client that reads slowly is not, and neither is a connection that was idle for long.
func TestAnswerThatNobodyReads(t *testing.T) {
	const size = 16 << 20 // more than the systems of both ends keep
	const timeout = 500 * time.Millisecond
	ended := make(chan struct{}, 1)
	address, log := serving(t, timeout, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			return
		}
		part := make([]byte, size)
		if r.URL.Path == "/parts" {
			part = part[:32<<10]
		}
		for sent := 0; sent < size; sent += len(part) {
			if _, err := w.Write(part); err != nil {
				<-r.Context().Done()
				ended <- struct{}{}
				return
			}
		}
	})
	for i, target := range []string{"/whole", "/parts"} {
		conn, _ := dial(t, address)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
		receive(t, "the end of the answer", ended)
		if n := strings.Count(log.String(), "read its answer too slowly"); n != i+1 {
			t.Errorf("%d lines", n)
		}
	}
	conn, r := dial(t, address)
	for _, target := range []string{"/small", "/whole"} {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for total < response.ContentLength || response.ContentLength < 0 {
			n, err := io.CopyN(io.Discard, response.Body, 1<<20)
			if total += n; err != nil {
				break
			}
			<-time.After(timeout / 10) // in all longer than the timeout
		}
		if target == "/whole" && total != size {
			t.Errorf("%d bytes", total)
		}
		<-time.After(2 * timeout) // what is tested is the passing of time
	}
}
