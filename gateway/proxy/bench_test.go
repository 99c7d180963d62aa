package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"kvstore/gateway/h1"
	"kvstore/gateway/proxy"
)

// BenchmarkForward measures the hop, with backends that do not look at requests.
func BenchmarkForward(b *testing.B) {
	for _, backends := range []int{1, 3} {
		b.Run(fmt.Sprintf("backends=%d", backends), func(b *testing.B) { benchmarkForward(b, backends) })
	}
}

func benchmarkForward(b *testing.B, backends int) {
	b.Helper()
	const (
		request = "GET /get/app/db/host HTTP/1.1\r\nHost: kv.example\r\nUser-Agent: bench\r\nAccept: */*\r\nX-Forwarded-For: 192.0.2.1\r\n" +
			"X-Forwarded-Host: kv.example\r\nX-Forwarded-Proto: http\r\nX-Real-Ip: 192.0.2.1\r\nX-Request-Id: 0123456789abcdef\r\n\r\n"
		response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nEtag: \"2\"\r\nContent-Length: 2\r\n\r\n{}"
	)
	p := benchmarked(b, backends, response)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, listener) }()
	before := cpuTime(b)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := io.WriteString(conn, request); err != nil {
				b.Error(err)
				return
			}
			if err := skipAnswer(r, 2); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.StopTimer()
	stop()
	if err := <-served; err != nil {
		b.Error(err)
	}
	p.Close()
}

// cpuTime returns the processor time of this process, which includes client and backend. Unlike
// the time of an operation it hardly depends on what else the machine does.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

// benchmarked returns a gateway whose backends, n of them, answer each head with response.
func benchmarked(b *testing.B, n int, response string) *proxy.Proxy {
	b.Helper()
	cfg := proxy.Config{
		Limits:        h1.Limits{MaxConnections: 1 << 10, BackendTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second},
		MaxValueBytes: 1 << 20, ProbeInterval: time.Hour,
		Logger: slog.New(slog.DiscardHandler), MaxRequestsPerClient: 1 << 20,
	}
	for range n {
		backend, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { backend.Close() })
		go answerAll(backend, response)
		cfg.Backends = append(cfg.Backends, &url.URL{Scheme: "http", Host: backend.Addr().String()})
	}
	p, err := proxy.New(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// answerAll answers each head that comes to listener: probes as a backend does, the rest with response.
func answerAll(listener net.Listener, response string) {
	const ready = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n" + `{"status":"ok","store":"s"}`
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				line, err := r.Peek(len("GET /readyz"))
				if err != nil {
					return
				}
				said := response
				if string(line) == "GET /readyz" {
					said = ready
				}
				if skipHead(r) != nil {
					return
				}
				_, _ = io.WriteString(conn, said)
			}
		}()
	}
}

func skipHead(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) == 2 {
			return err
		}
	}
}

func skipAnswer(r *bufio.Reader, body int) error {
	if err := skipHead(r); err != nil {
		return err
	}
	_, err := r.Discard(body)
	return err
}
