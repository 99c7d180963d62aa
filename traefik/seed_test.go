package traefik_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// The examples in the predecessor's README, with the answers of the contract. They run in this
// order on an empty store.
var seedExamples = []struct {
	name   string
	curl   []string // without -s
	answer string
}{
	{
		"PUT creates",
		[]string{"-X", "PUT", "http://localhost:8000/put/mykey", "-H", "Content-Type: application/json", "-d", `{"value": "hello world"}`},
		`{"operation":"create","key":"mykey","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":<time>,"revision":1}`,
	},
	{
		"GET the latest",
		[]string{"http://localhost:8000/get/mykey"},
		`{"key":"mykey","value":"hello world","version":1,"timestamp":<time>,"revision":1,"source":"cache"}`,
	},
	{
		"POST updates",
		[]string{"-X", "POST", "http://localhost:8000/put/mykey", "-H", "Content-Type: application/json", "-d", `{"value": "hello again"}`},
		`{"operation":"update","key":"mykey","version":2,"new_version":2,"previous_version":1,"total_versions":2,"timestamp":<time>,"revision":2}`,
	},
	{
		"GET the latest after an update",
		[]string{"http://localhost:8000/get/mykey"},
		`{"key":"mykey","value":"hello again","version":2,"timestamp":<time>,"revision":2,"source":"cache"}`,
	},
	{
		"GET a version",
		[]string{"http://localhost:8000/get/mykey?version=1"},
		`{"key":"mykey","value":"hello world","version":1,"timestamp":<time>,"revision":1,"source":"database"}`,
	},
	{
		"a bare curl -d",
		[]string{"http://localhost:8000/put/other", "-d", `{"value": null}`},
		`{"operation":"create","key":"other","version":1,"new_version":null,"previous_version":null,"total_versions":1,"timestamp":<time>,"revision":3}`,
	},
	{
		"cache statistics",
		[]string{"http://localhost:8000/cache/stats"},
		`{"current_size":2,"max_size":100,"is_full":false,"hits":2,"misses":<count>,"hit_ratio":<ratio>,"evictions":0,"bytes":<count>,"max_bytes":67108864}`,
	},
	{
		"database statistics",
		[]string{"http://localhost:8000/db/stats"},
		`{"total_keys":2,"total_versions":3,"database_size_bytes":<count>,"revision":3}`,
	},
}

func TestSeedExamples(t *testing.T) {
	t.Run("curl", func(t *testing.T) {
		if _, err := exec.LookPath("curl"); err != nil {
			t.Skip(err)
		}
		newStack(t)
		for _, example := range seedExamples {
			t.Run(example.name, func(t *testing.T) { withCurl(t, example.curl).wantBody(t, example.answer) })
		}
	})
	t.Run("net/http", func(t *testing.T) {
		newStack(t)
		for _, example := range seedExamples {
			t.Run(example.name, func(t *testing.T) { asCurl(t, example.curl).wantBody(t, example.answer) })
		}
	})
}

func withCurl(t *testing.T, args []string) response {
	t.Helper()
	const separator = "\n---\n"
	args = append([]string{"-sS", "--fail-with-body", "-w", separator + "%{content_type}"}, args...)
	output, err := exec.Command("curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, output)
	}
	body, kind, _ := strings.Cut(string(output), separator)
	return response{status: http.StatusOK, body: body, header: http.Header{"Content-Type": {kind}}}
}

// asCurl sends what curl would send.
func asCurl(t *testing.T, args []string) response {
	t.Helper()
	method, target, body, header := http.MethodGet, "", "", http.Header{}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-X":
			i++
			method = args[i]
		case "-d":
			i++
			body = args[i]
			if method == http.MethodGet {
				method = http.MethodPost
			}
		case "-H":
			i++
			name, value, _ := strings.Cut(args[i], ": ")
			header.Set(name, value)
		default:
			target = strings.TrimPrefix(args[i], "http://localhost:8000")
		}
	}
	if body != "" && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return request(t, webAddress, method, target, header, body).wantStatus(t, http.StatusOK)
}
