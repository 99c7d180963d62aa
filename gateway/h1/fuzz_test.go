package h1_test

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"kvstore/gateway/h1"
)

// headers converts fields to the form of net/http.
func headers(fields []h1.Field) http.Header {
	header := http.Header{}
	for _, field := range fields {
		name := textproto.CanonicalMIMEHeaderKey(string(field.Name))
		header[name] = append(header[name], string(field.Value))
	}
	return header
}

// withoutFraming removes what net/http keeps elsewhere.
func withoutFraming(header http.Header) http.Header {
	header = maps.Clone(header)
	for _, name := range []string{"Host", "Transfer-Encoding", "Content-Length", "Trailer"} {
		header.Del(name)
	}
	return header
}

func equal(a, b http.Header) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]string])
}

// unchunk decodes b in pieces of at most size bytes.
func unchunk(b []byte, size int) (data, rest []byte, ok bool) {
	var chunks h1.Chunks
	for len(b) > 0 && !chunks.Ended() {
		part, used, err := chunks.Next(b[:min(size, len(b))])
		if err != nil {
			return data, b, false
		}
		data = append(data, part...)
		b = b[used:]
	}
	return data, b, chunks.Ended()
}

// isAboutTrailer reports whether net/http refuses a name in the header Trailer, which is dropped
// here like trailers.
func isAboutTrailer(err error) bool { return strings.Contains(err.Error(), "bad trailer key") }

// FuzzRequest checks that net/http reads what is accepted as the same request: method, target,
// host, headers, the length of the body, and where the next request begins.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n"))
	for _, seed := range requests {
		f.Add([]byte(seed.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, bad := h1.HeadLength(raw, 0)
		if bad != nil || n == 0 {
			return
		}
		var r h1.Request
		if r.Parse(raw[:n]) != nil {
			return
		}
		reader := bufio.NewReader(bytes.NewReader(raw))
		want, err := http.ReadRequest(reader)
		if err != nil {
			if isAboutTrailer(err) || len(r.Target) == 0 {
				return // a target without a path goes nowhere
			}
			t.Fatalf("net/http refuses it: %v", err)
		}
		if string(r.Method) != want.Method || want.ProtoMajor != 1 || r.Minor != want.ProtoMinor {
			t.Errorf("%s HTTP/1.%d, net/http: %s %s", r.Method, r.Minor, want.Method, want.Proto)
		}
		if len(r.Target) > 0 && r.Target[0] == '/' && strings.HasPrefix(want.RequestURI, "/") && string(r.Target) != want.RequestURI {
			t.Errorf("target %q, net/http: %q", r.Target, want.RequestURI)
		}
		if len(r.Target) > 0 && string(r.Host) != want.Host {
			t.Errorf("host %q, net/http: %q", r.Host, want.Host)
		}
		if got, want := withoutFraming(headers(r.Fields)), withoutFraming(want.Header); !equal(got, want) {
			t.Errorf("headers %q, net/http: %q", got, want)
		}
		if r.Length != want.ContentLength {
			t.Errorf("length %d, net/http: %d", r.Length, want.ContentLength)
		}
		body, err := io.ReadAll(want.Body)
		rest, _ := io.ReadAll(reader)
		switch {
		case r.Length == h1.Chunked:
			data, left, ok := unchunk(raw[n:], 7)
			if ok && (err != nil || !bytes.Equal(data, body) || !bytes.Equal(left, rest)) {
				t.Errorf("body %q and then %q, net/http: %q and then %q, %v", data, left, body, rest, err)
			}
		case err == nil:
			if got := raw[n:]; !bytes.Equal(got[:r.Length], body) || !bytes.Equal(got[r.Length:], rest) {
				t.Errorf("net/http has the body %q and then %q", body, rest)
			}
		}
	})
}

// FuzzResponse does the same for answers.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer\r\n\r\n0\r\n\r\n"), false)
	for _, seed := range responses {
		f.Add([]byte(seed.raw), false)
		f.Add([]byte(seed.raw), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, toHEAD bool) {
		n, bad := h1.HeadLength(raw, 0)
		if bad != nil || n == 0 {
			return
		}
		var r h1.Response
		if r.Parse(raw[:n]) != nil {
			return
		}
		method := http.MethodGet
		if toHEAD {
			method = http.MethodHead
		}
		reader := bufio.NewReader(bytes.NewReader(raw))
		want, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			if isAboutTrailer(err) {
				return
			}
			t.Fatalf("net/http refuses it: %v", err)
		}
		defer want.Body.Close()
		if r.Status != want.StatusCode {
			t.Errorf("status %d, net/http: %d", r.Status, want.StatusCode)
		}
		if got, want := withoutFraming(headers(r.Fields)), withoutFraming(want.Header); !equal(got, want) {
			t.Errorf("headers %q, net/http: %q", got, want)
		}
		if r.Interim() {
			return
		}
		body, err := io.ReadAll(want.Body)
		rest, _ := io.ReadAll(reader)
		switch {
		case r.NoBody(toHEAD):
			if len(body) > 0 {
				t.Errorf("no body, net/http: %q", body)
			}
		case r.Length == h1.Chunked:
			data, left, ok := unchunk(raw[n:], 7)
			if ok && (err != nil || !bytes.Equal(data, body) || !bytes.Equal(left, rest)) {
				t.Errorf("body %q and then %q, net/http: %q and then %q, %v", data, left, body, rest, err)
			}
		case r.Length == h1.UntilClose:
			if !bytes.Equal(raw[n:], body) {
				t.Errorf("net/http has the body %q", body)
			}
		case err == nil:
			if got := raw[n:]; !bytes.Equal(got[:r.Length], body) || !bytes.Equal(got[r.Length:], rest) {
				t.Errorf("net/http has the body %q and then %q", body, rest)
			}
		}
	})
}

// FuzzChunks checks that a body decodes to the same however it is cut into pieces, and that what is
// encoded again decodes to the same, also for net/http.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nrest", "3;a=b\r\nabc\r\n0\r\nSum: 1\r\n\r\n", "00a\r\n0123456789\r\n0\r\n\r\n", "3\r\nabc\r\n", "3\nabc\n0\n\n",
	} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		data, rest, ok := unchunk(raw, max(1, len(raw)))
		again, left, same := unchunk(raw, max(1, size))
		if ok != same || ok && (!bytes.Equal(data, again) || !bytes.Equal(rest, left)) {
			t.Fatalf("in one piece %q, %t; in pieces %q, %t", data, ok, again, same)
		}
		if !ok {
			return
		}
		encoded := h1.AppendLastChunk(h1.AppendChunk(nil, data))
		if got, left, ok := unchunk(encoded, 5); !ok || len(left) > 0 || !bytes.Equal(got, data) {
			t.Errorf("encoded again: %q", encoded)
		}
		head := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(encoded))))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(request.Body); err != nil || !bytes.Equal(got, data) {
			t.Errorf("net/http reads %q as %q, %v", encoded, got, err)
		}
	})
}
