package traefik_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A response is the answer to a request.
type response struct {
	status int
	header http.Header
	body   string
}

// request sends a request over a new connection. It writes target to the request line byte for
// byte, which the client of net/http would rewrite.
func request(t *testing.T, address, method, target string, header http.Header, body string) response {
	t.Helper()
	answer, err := tryRequest(address, method, target, header, body)
	if err != nil {
		t.Fatalf("%s %s at %s: %v", method, target, address, err)
	}
	return answer
}

func tryRequest(address, method, target string, header http.Header, body string) (response, error) {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return response{}, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return response{}, err
	}
	go func() { // a server may answer (413) before it has read everything
		_, _ = io.WriteString(connection, head(address, method, target, header, len(body))+body)
	}()
	answer, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	got, err := received(answer)
	if err == nil && address == webAddress {
		record(method, target, got)
	}
	return got, err
}

// received reads an answer completely.
func received(answer *http.Response) (response, error) {
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{status: answer.StatusCode, header: answer.Header, body: string(text)}, err
}

// finalResponse reads the answer that follows any number of 100 Continue, one of each hop.
func finalResponse(reader *bufio.Reader) (response, error) {
	for {
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			return response{}, err
		}
		if answer.StatusCode != http.StatusContinue {
			return received(answer)
		}
	}
}

// head returns everything before the body of a request.
func head(address, method, target string, header http.Header, bodyLength int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, target, address)
	if bodyLength > 0 || method == http.MethodPut || method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", bodyLength)
	}
	_ = header.Write(&b) // never fails for a strings.Builder
	b.WriteString("\r\n")
	return b.String()
}

func get(t *testing.T, target string) response {
	t.Helper()
	return request(t, webAddress, http.MethodGet, target, nil, "")
}

// put writes the JSON text value to the key at path.
func put(t *testing.T, path, value string) response {
	t.Helper()
	return request(t, webAddress, http.MethodPut, "/put/"+path, nil, `{"value":`+value+`}`)
}

// wantStatus stops the test unless the answer has the status.
func (r response) wantStatus(t *testing.T, status int) response {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d; body: %.500s", r.status, status, r.body)
	}
	return r
}

// decode decodes the body into the type T, which must have every member.
func decode[T any](t *testing.T, r response) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v; body: %.500s", err, r.body)
	}
	return value
}

// placeholders match what differs between runs in the text of wantBody.
var placeholders = strings.NewReplacer(
	"<time>", `[0-9]{10}\.[0-9]{1,6}`, // seconds with at most six decimals
	"<count>", `[0-9]+`,
	"<ratio>", `(?:0|1|0\.[0-9]+)`,
)

// wantBody compares the whole body byte for byte, except for placeholders and a newline at the
// end.
func (r response) wantBody(t *testing.T, text string) {
	t.Helper()
	pattern := placeholders.Replace(regexp.QuoteMeta(text))
	if !regexp.MustCompile(`\A` + pattern + `\n?\z`).MatchString(r.body) {
		t.Errorf("body:\n%s\nwant:\n%s", r.body, text)
	}
	if kind := r.header.Get("Content-Type"); kind != "application/json" && kind != "application/json; charset=utf-8" {
		t.Errorf("Content-Type: %q", kind)
	}
}

// A problem is an error answer of any hop.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// phrase returns the reason phrase of RFC 9110, where net/http has an older one.
func phrase(status int) string {
	if newer := map[int]string{413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}[status]; newer != "" {
		return newer
	}
	return http.StatusText(status)
}

// wantProblem checks what all error answers have in common and returns the problem.
func (r response) wantProblem(t *testing.T, status int) problem {
	t.Helper()
	r.wantStatus(t, status)
	if kind := r.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", kind)
	}
	var p problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("%v; body: %.500s", err, r.body)
	}
	if p.Type == "" || p.Title != phrase(status) || p.Status != status || p.Detail == "" || p.Code == "" {
		t.Errorf("incomplete problem: %s", r.body)
	}
	if r.header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
	return p
}

// The answers of the contract, member by member.

type putAnswer struct {
	Operation       string  `json:"operation"`
	Key             string  `json:"key"`
	Version         int     `json:"version"`
	NewVersion      *int    `json:"new_version"`
	PreviousVersion *int    `json:"previous_version"`
	TotalVersions   int     `json:"total_versions"`
	Timestamp       float64 `json:"timestamp"`
	Revision        int     `json:"revision"`
}

type getAnswer struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Version   int             `json:"version"`
	Timestamp float64         `json:"timestamp"`
	Revision  int             `json:"revision"`
	Source    string          `json:"source"`
}

type databaseStats struct {
	TotalKeys         int `json:"total_keys"`
	TotalVersions     int `json:"total_versions"`
	DatabaseSizeBytes int `json:"database_size_bytes"`
	Revision          int `json:"revision"`
}
