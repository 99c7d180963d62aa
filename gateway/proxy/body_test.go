package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/gateway/proxy"
	"kvstore/internal/settings"
)

const limit = 1000 + settings.EnvelopeBytes

func smallBodies(c *proxy.Config) { c.MaxValueBytes = 1000 }

func TestBodiesArriveWhole(t *testing.T) {
	random := make([]byte, 8<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	g := start(t, func(c *proxy.Config) { c.MaxValueBytes = 16 << 20 }, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Got-Length", fmt.Sprint(r.ContentLength))
		w.Header().Set("Trailer", "Sum") // trailers are dropped
		hash := sha256.New()
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(io.MultiWriter(w, hash), r.Body)
		w.Header().Set("Sum", fmt.Sprintf("%x", hash.Sum(nil)))
	}).URL)
	for _, size := range []int{0, 1, 4095, 4096, 4097, 32 << 10, 1 << 20, len(random)} {
		for _, known := range []bool{true, false} {
			var body io.Reader = bytes.NewReader(random[:size])
			want := fmt.Sprint(size)
			if !known {
				body = io.MultiReader(body)
				want = "-1"
			}
			response, got := do(t, http.MethodPut, g.URL+"/put/k", nil, body)
			if got != string(random[:size]) {
				t.Errorf("%d bytes came back as %d", size, len(got))
			}
			if length := response.Header.Get("Got-Length"); length != want {
				t.Errorf("%d bytes: the backend saw the length %s", size, length)
			}
			if len(response.Trailer) > 0 || response.Header.Get("Trailer") != "" {
				t.Errorf("%d bytes: trailer %v, announced %v", size, response.Trailer, response.Header)
			}
		}
	}
}

// The client sends its second chunk only after the first has arrived.
func TestRequestStreams(t *testing.T) {
	chunks := make(chan string, 1)
	g := start(t, nil, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		defer close(chunks)
		chunk := make([]byte, 3)
		for {
			if _, err := io.ReadFull(r.Body, chunk); err != nil {
				return
			}
			chunks <- string(chunk)
		}
	}).URL)
	conn, r := g.dial(t)
	fmt.Fprint(conn, "POST /batch HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
	for _, chunk := range []string{"abc", "def", "ghi"} {
		fmt.Fprintf(conn, "3\r\n%s\r\n", chunk)
		if got := receive(t, "a chunk", chunks); got != chunk {
			t.Errorf("got %q", got)
		}
	}
	fmt.Fprint(conn, "0\r\n\r\n")
	if response, _ := answer(t, r, "POST"); response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
}

// The backend writes the second part only after the first has arrived, whether or not the
// length is known.
func TestAnswerStreams(t *testing.T) {
	next := make(chan struct{})
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/get/known" {
			w.Header().Set("Content-Length", "6")
		}
		for _, part := range []string{"", "abc", "def"} {
			fmt.Fprint(w, part)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	}).URL)
	for _, path := range []string{"/get/known", "/get/unknown", "/watch"} {
		conn, r := g.dial(t)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
		response, err := http.ReadResponse(r, nil) // the header comes first
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"abc", "def"} {
			next <- struct{}{}
			got := make([]byte, 3)
			if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
				t.Fatalf("%s: got %q, %v", path, got, err)
			}
		}
		next <- struct{}{}
		response.Body.Close()
	}
}

func TestBodyLimit(t *testing.T) {
	var requests, complete atomic.Int32
	g := start(t, smallBodies, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			complete.Add(1)
		}
	}).URL)
	detail := fmt.Sprintf("body: is over the limit of %d bytes (KV_MAX_VALUE_BYTES plus 65536)", limit)

	t.Run("known length", func(t *testing.T) {
		response, body := g.send(t, fmt.Sprintf("PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", limit+1))
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", detail)
		if !response.Close || requests.Load() != 0 {
			t.Errorf("close %t, requests %d", response.Close, requests.Load())
		}
	})
	t.Run("unknown length", func(t *testing.T) {
		response, body := do(t, http.MethodPut, g.URL+"/put/k", nil, io.LimitReader(zeros{}, limit+1))
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", detail)
		eventually(t, "the backend saw the request", func() bool { return requests.Load() == 1 })
		if !response.Close || complete.Load() != 0 {
			t.Errorf("close %t, complete %d", response.Close, complete.Load())
		}
	})
	t.Run("unknown length without end", func(t *testing.T) {
		conn, r := g.dial(t)
		w := bufio.NewWriter(conn)
		fmt.Fprint(w, "PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range limit/1000 + 1 {
			fmt.Fprintf(w, "3e8\r\n%s\r\n", strings.Repeat("x", 1000))
		}
		_ = w.Flush()
		response, body := answer(t, r, "PUT")
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", detail)
	})
	if complete.Load() != 0 {
		t.Error("the backend took a body that was cut")
	}
	t.Run("exactly the limit", func(t *testing.T) {
		for _, body := range []io.Reader{bytes.NewReader(make([]byte, limit)), io.LimitReader(zeros{}, limit)} {
			if response, text := do(t, http.MethodPut, g.URL+"/put/k", nil, body); response.StatusCode != http.StatusOK {
				t.Error(response.Status, text)
			}
		}
	})
}

// A batch may be larger than other bodies, however its path is written.
func TestBatchLimit(t *testing.T) {
	g := start(t, smallBodies, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}).URL)
	const most = 4*1336 + 1<<20
	detail := fmt.Sprintf("body: is over the limit of %d bytes (4 times KV_MAX_VALUE_BYTES in base64, plus 1048576)", most)
	for _, path := range []string{"/batch", "/%62atch", "/batch?x"} {
		for _, size := range []int64{most, most + 1} {
			for _, body := range []io.Reader{bytes.NewReader(make([]byte, size)), io.LimitReader(zeros{}, size)} {
				switch response, text := do(t, http.MethodPost, g.URL+path, nil, body); {
				case size > most:
					wantProblem(t, response, text, http.StatusRequestEntityTooLarge, "value_too_large", detail)
				case response.StatusCode != http.StatusOK:
					t.Error(path, response.Status, text)
				}
			}
		}
	}
}

func TestMalformedBody(t *testing.T) {
	var complete atomic.Bool
	g := start(t, nil, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		complete.Store(err == nil)
	}).URL)
	response, body := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n")
	wantProblem(t, response, body, http.StatusBadRequest, "bad_request", "The request body is malformed")
	if complete.Load() || !response.Close {
		t.Errorf("complete %t, close %t", complete.Load(), response.Close)
	}
}

func TestTricklingBody(t *testing.T) {
	ended := make(chan error, 1)
	g := start(t, func(c *proxy.Config) { c.BodyTimeout = short }, newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}).URL)
	response, body := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
	wantProblem(t, response, body, http.StatusRequestTimeout, "request_timeout", "body: did not arrive within "+short.String()+" (KV_BODY_TIMEOUT)")
	if err := receive(t, "the end of the backend's request", ended); err == nil || !response.Close {
		t.Errorf("%v, close %t", err, response.Close)
	}
}

// The deadline for the body does not apply after the end of the body.
func TestAnswerMayTakeLongerThanABody(t *testing.T) {
	g := start(t, func(c *proxy.Config) { c.BodyTimeout = short }, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(3 * short): // what is tested is the passing of time
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "late")
	}).URL)
	conn, r := g.dial(t)
	for _, body := range []string{"Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"} {
		fmt.Fprint(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\n"+body)
		if response, text := answer(t, r, "PUT"); text != "late" {
			t.Errorf("%s %q", response.Status, text)
		}
	}
}

// The answer of a backend that refuses a body early arrives, though it reads nothing of it.
func TestEarlyAnswer(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		fmt.Fprint(w, "no")
	}).URL)
	for range 20 {
		response, body := do(t, http.MethodPut, g.URL+"/put/k", nil, bytes.NewReader(make([]byte, 1<<20)))
		if response.StatusCode != http.StatusUnsupportedMediaType || body != "no" {
			t.Fatal(response.Status, body)
		}
	}
}

// An early answer arrives though the client pauses in its body.
func TestEarlyAnswerInAPause(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		// Or net/http would read the body first. EnableFullDuplex is no way to prevent that: net/http
		// looks for the end of the body behind the answer then, and panics when it finds it.
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}).URL)
	if response, _ := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"); response.StatusCode != http.StatusUnsupportedMediaType {
		t.Error(response.Status)
	}
}

func TestExpectContinue(t *testing.T) {
	g := start(t, smallBodies, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/put/refused" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), " ", err)
	}).URL)
	const head = "PUT %s HTTP/1.1\r\nHost: h\r\nX-Request-Id: id\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

	t.Run("taken", func(t *testing.T) {
		conn, r := g.dial(t)
		fmt.Fprintf(conn, head, "/put/k", 4)
		if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q %v", line, err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != "\r\n" {
			t.Fatalf("%q %v", line, err)
		}
		fmt.Fprint(conn, "body")
		response, body := answer(t, r, "PUT")
		if body != "body <nil>" || len(response.Header["X-Request-Id"]) != 1 || response.Header.Get("X-Request-Id") != "id" {
			t.Errorf("%q %v", body, response.Header)
		}
	})
	t.Run("refused by the backend", func(t *testing.T) {
		response, _ := g.send(t, fmt.Sprintf(head, "/put/refused", 4))
		if response.StatusCode != http.StatusForbidden || response.Header.Get("X-Request-Id") != "id" {
			t.Errorf("%s %v", response.Status, response.Header)
		}
	})
	t.Run("refused by the gateway", func(t *testing.T) {
		response, body := g.send(t, fmt.Sprintf(head, "/put/k", limit+1))
		wantProblem(t, response, body, http.StatusRequestEntityTooLarge, "value_too_large", "")
	})
}
