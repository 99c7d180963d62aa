package generator_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/bench/generator"
)

func TestHistogram(t *testing.T) {
	var h generator.Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %s", got)
	}
	for i := 1; i <= 10_000; i++ {
		h.Add(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond} {
		if got := h.Quantile(q); got < want || got > want*104/100 {
			t.Errorf("quantile %v is %s, want %s and up to 4 %% more", q, got, want)
		}
	}
}

func TestSequence(t *testing.T) {
	value := generator.AppendValue(nil, "a/1", 77)
	if sequence, ok := generator.Sequence(value, "a/1"); len(value) != 100 || sequence != 77 || !ok {
		t.Errorf("%s of %d bytes: %d, %v", value, len(value), sequence, ok)
	}
	if _, ok := generator.Sequence(value, "a/2"); ok {
		t.Error("a value of another key is accepted")
	}
	value[90] = 'w'
	if _, ok := generator.Sequence(value, "a/1"); ok {
		t.Error("a damaged value is accepted")
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		codec   generator.Codec
		put     bool
		text    string
		version int64
		value   string
	}{
		{"KVPut", generator.KV{}, true, "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n" + `{"key":"k","version":12}`, 12, ""},
		{"KVGet", generator.KV{}, false, "HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n" + `{"value":"v","version":7}`, 7, `"v"`},
		{"Stats", generator.Stats{}, false, "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n" + `{"total_versions":10000}`, 10000, ""},
		{"EtcdPut", &generator.Etcd{}, true, "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n" + `{"header":{"revision":"12"}}`, 12, ""},
		{"EtcdGet", &generator.Etcd{}, false, "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n" + `{"kvs":[{"mod_revision":"3","value":"eA=="}]} `, 3, "x"},
		{"RedisPut", generator.Redis{}, true, "+OK\r\n", generator.NoVersion, ""},
		{"RedisGet", generator.Redis{}, false, "$3\r\nabc\r\n", generator.NoVersion, "abc"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for n := range len(test.text) {
				if _, length, err := test.codec.Parse([]byte(test.text[:n]), test.put); length != 0 || err != nil {
					t.Fatalf("the first %d bytes: length %d, %v", n, length, err)
				}
			}
			answer, length, err := test.codec.Parse([]byte(test.text), test.put)
			if length != len(test.text) || err != nil || answer.Version != test.version || string(answer.Value) != test.value {
				t.Errorf("%d %q, length %d, %v", answer.Version, answer.Value, length, err)
			}
		})
	}
}

func TestParseWrong(t *testing.T) {
	var wrong *generator.WrongError
	text := "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
	if _, length, err := (generator.KV{}).Parse([]byte(text), true); !errors.As(err, &wrong) || length != len(text) {
		t.Errorf("a 503: length %d, %v", length, err)
	}
	if _, _, err := (generator.Redis{}).Parse([]byte("$-1\r\n"), false); !errors.As(err, &wrong) {
		t.Errorf("a missing key: %v", err)
	}
	if _, _, err := (generator.KV{}).Parse([]byte("SSH-2.0-OpenSSH\r\n\r\n"), false); err == nil || errors.As(err, &wrong) {
		t.Errorf("another protocol: %v", err)
	}
}

// A fake answers like the service, and can give wrong answers.
type fake struct {
	mu       sync.Mutex
	values   map[string]string
	versions map[string]int
	stale    bool // repeats versions
	mixUp    bool // answers reads with the value of another key
	breakAt  int  // closes the connection at that request
	requests int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.requests == f.breakAt {
		panic(http.ErrAbortHandler)
	}
	if key, put := strings.CutPrefix(r.URL.Path, "/put/"); put {
		body, _ := io.ReadAll(r.Body)
		f.values[key] = strings.TrimSuffix(strings.TrimPrefix(string(body), `{"value":`), "}")
		if !f.stale || f.versions[key] == 0 {
			f.versions[key]++
		}
		fmt.Fprintf(w, `{"key":"%s","version":%d}`, key, f.versions[key])
		return
	}
	key := strings.TrimPrefix(r.URL.Path, "/get/")
	value := f.values[key]
	if f.mixUp {
		value = f.values["bench-get-0"]
	}
	fmt.Fprintf(w, `{"key":"%s","value":%s,"version":%d}`, key, value, f.versions[key])
}

// serve runs the load briefly with 8 connections.
func serve(t *testing.T, f *fake, load generator.Load) generator.Result {
	t.Helper()
	client := open(t, f, generator.NewKeys(load))
	if err := client.Fill(); err != nil {
		t.Fatal(err)
	}
	result, err := client.Run(50*time.Millisecond, load.NewPicker(1))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// open opens 8 connections to a server of the fake.
func open(t *testing.T, f *fake, keys *generator.Keys) *generator.Client {
	t.Helper()
	if f.values == nil {
		f.values, f.versions = map[string]string{}, map[string]int{}
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	client, err := generator.Open([]string{listener.Addr().String()}, generator.KV{Host: "x"}, keys, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestRun(t *testing.T) {
	for _, load := range generator.Loads {
		t.Run(load.Name, func(t *testing.T) {
			load.Keys = min(load.Keys, 1000)
			result := serve(t, &fake{}, load)
			if result.Errors > 0 || result.Requests == 0 || result.Latency.Total != result.Requests {
				t.Errorf("%d requests, %d in the histogram, %d errors: %s", result.Requests, result.Latency.Total, result.Errors, result.Error)
			}
		})
	}
}

func TestRunFindsWrongAnswers(t *testing.T) {
	put, get := generator.Loads[0], generator.Loads[1]
	t.Run("a version twice", func(t *testing.T) {
		if result := serve(t, &fake{stale: true}, put); result.Errors == 0 || result.Requests > 0 {
			t.Errorf("%d requests, %d errors", result.Requests, result.Errors)
		}
	})
	t.Run("the value of another key", func(t *testing.T) {
		if result := serve(t, &fake{mixUp: true}, get); result.Errors == 0 {
			t.Error("not found")
		}
	})
}

// A broken connection is counted and opened again.
func TestRunBrokenConnection(t *testing.T) {
	result := serve(t, &fake{breakAt: 300}, generator.Loads[1])
	if result.Broken != 1 || result.Errors > 0 || result.Requests == 0 {
		t.Errorf("%d requests, %d errors, %d broken: %s", result.Requests, result.Errors, result.Broken, result.Error)
	}
	result = serve(t, &fake{breakAt: 50}, generator.Loads[1])
	if result.Broken != 1 || result.Errors > 0 {
		t.Errorf("in the fill: %d errors, %d broken: %s", result.Errors, result.Broken, result.Error)
	}
}

// The sweep after a load finds acknowledged writes that are lost, and the sum of the latest versions
// is the number of writes.
func TestSweep(t *testing.T) {
	load := generator.Load{Name: "put", Keys: 20, PutShare: 1}
	f, keys := &fake{}, generator.NewKeys(load)
	client := open(t, f, keys)
	if err := client.Fill(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Run(50*time.Millisecond, load.NewPicker(1)); err != nil {
		t.Fatal(err)
	}
	acknowledged, unknown := keys.Writes()
	if acknowledged != uint64(f.requests) || unknown != 0 || keys.Versions() != acknowledged {
		t.Errorf("%d of %d writes, %d unknown, %d versions", acknowledged, f.requests, unknown, keys.Versions())
	}
	sweep := func() generator.Result {
		result, err := client.Sweep()
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if result := sweep(); result.Errors > 0 || result.Requests != 20 {
		t.Errorf("%d requests, %d errors: %s", result.Requests, result.Errors, result.Error)
	}
	// An older value of the key with the newest version.
	f.values[load.Key(3)] = string(generator.AppendValue(nil, load.Key(3), 3))
	if result := sweep(); result.Errors != 1 || result.Requests != 19 {
		t.Errorf("a lost value: %d requests, %d errors", result.Requests, result.Errors)
	}
}

// A store that was filled in another way is checked like one that Fill has filled.
func TestFilled(t *testing.T) {
	load := generator.Load{Name: "put", Keys: 20, PutShare: 1}
	f := &fake{}
	if err := open(t, f, generator.NewKeys(load)).Fill(); err != nil {
		t.Fatal(err)
	}
	for versions, wrong := range map[int64]uint64{1: 0, 2: 20} {
		keys := generator.NewKeys(load)
		keys.Filled(versions)
		if acknowledged, _ := keys.Writes(); acknowledged != uint64(20*versions) || keys.Versions() != acknowledged {
			t.Errorf("%d writes, %d versions", acknowledged, keys.Versions())
		}
		if result, err := open(t, f, keys).Sweep(); err != nil || result.Errors != wrong {
			t.Errorf("filled with %d versions: %d errors, %v", versions, result.Errors, err)
		}
	}
}
