package traefik_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestHeadWorksWhereverGetDoes(t *testing.T) {
	newStack(t)
	put(t, "k", `"value"`).wantStatus(t, http.StatusOK)
	for target, status := range map[string]int{
		"/get/k":           http.StatusOK,
		"/get/k?version=1": http.StatusOK,
		"/cache/stats":     http.StatusOK,
		"/db/stats":        http.StatusOK,
		"/openapi.json":    http.StatusOK,
		"/docs/index.html": http.StatusOK,
		"/health":          http.StatusOK,
		"/get/none":        http.StatusNotFound,
		"/nothing":         http.StatusNotFound,
	} {
		t.Run(target, func(t *testing.T) {
			got := get(t, target).wantStatus(t, status)
			head := request(t, webAddress, http.MethodHead, target, nil, "").wantStatus(t, status)
			if head.body != "" {
				t.Errorf("HEAD has the body %q", head.body)
			}
			for _, name := range []string{"Content-Type", "Cache-Control"} {
				if head.header.Get(name) != got.header.Get(name) {
					t.Errorf("%s: %q for HEAD, %q for GET", name, head.header.Get(name), got.header.Get(name))
				}
			}
		})
	}
}

func TestUnknownPaths(t *testing.T) {
	s := newStack(t)
	for _, target := range []string{
		"/", "/nothing", "/put", "/get", "/cache", "/cache/", "/db/stats/", "/Get/k", "/favicon.ico",
		"//put/k", "//get/k", "/./put/k", "/x/../put/k", "/health/",
	} {
		t.Run(target, func(t *testing.T) {
			for _, address := range s.addresses() {
				request(t, address, http.MethodGet, target, nil, "").wantProblem(t, http.StatusNotFound)
				request(t, address, http.MethodPut, target, nil, `{"value":1}`).wantProblem(t, http.StatusNotFound)
			}
		})
	}
	if stats := decode[databaseStats](t, get(t, "/db/stats")); stats.Revision != 0 {
		t.Errorf("something was written: %+v", stats)
	}
}

func TestRefusedMethods(t *testing.T) {
	s := newStack(t)
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	for _, c := range []struct {
		method, target string
		allow          []string
	}{
		{http.MethodGet, "/put/k", []string{"POST", "PUT"}},
		{http.MethodDelete, "/put/k", []string{"POST", "PUT"}},
		{http.MethodPost, "/get/k", []string{"GET", "HEAD"}},
		{http.MethodDelete, "/get/k", []string{"GET", "HEAD"}},
		{http.MethodPut, "/cache/stats", []string{"GET", "HEAD"}},
		{http.MethodPost, "/db/stats", []string{"GET", "HEAD"}},
		{http.MethodPost, "/health", []string{"GET", "HEAD"}},
		{"BREW", "/get/k", []string{"GET", "HEAD"}},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			for hop, address := range s.addresses() {
				answer := request(t, address, c.method, c.target, nil, "")
				answer.wantProblem(t, http.StatusMethodNotAllowed)
				allow := regexp.MustCompile(`[A-Z]+`).FindAllString(strings.Join(answer.header.Values("Allow"), ","), -1)
				if slices.Sort(allow); !slices.Equal(allow, c.allow) {
					t.Errorf("at the %s: Allow %v, want %v", hop, allow, c.allow)
				}
			}
		})
	}
}

// The endpoints for operators are not public, however the path is written.
func TestInternalsAreNotReachable(t *testing.T) {
	newStack(t)
	for _, name := range []string{"metrics", "healthz", "readyz", "db/compact", "db/backup"} {
		spelled := fmt.Sprintf("%%%02X%s", name[0], name[1:])
		for _, target := range []string{
			"/" + name, "/" + spelled, "/" + name + "/", "/" + name + "/x", "/" + name + "?x=1", "/" + name + "%2F",
			"//" + name, "/%2F" + name, "/./" + name, "/x/../" + name, "/%2E/" + name,
			"http://localhost/" + name, "http://localhost/" + spelled, "/" + name + ";x", "/" + name + "%00", "/" + name + "%20",
		} {
			t.Run(target, func(t *testing.T) {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
					answer := request(t, webAddress, method, target, nil, "").wantStatus(t, http.StatusNotFound)
					if kind := answer.header.Get("Content-Type"); kind != "application/problem+json" {
						t.Errorf("%s: Content-Type %q, want that of an unknown path", method, kind)
					}
				}
			})
		}
	}
	t.Run("/ping", func(t *testing.T) { get(t, "/ping").wantProblem(t, http.StatusNotFound) })
	t.Run("/api/rawdata", func(t *testing.T) { get(t, "/api/rawdata").wantProblem(t, http.StatusNotFound) })
	t.Run("/dashboard/", func(t *testing.T) { get(t, "/dashboard/").wantProblem(t, http.StatusNotFound) })
}

func TestHealthHasAMemberForEachPart(t *testing.T) {
	s := newStack(t)
	var parts map[string]json.RawMessage
	if err := json.Unmarshal([]byte(get(t, "/health").wantStatus(t, http.StatusOK).body), &parts); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateway", "backend"} {
		if len(parts[name]) == 0 {
			t.Errorf("no member %s in %v", name, parts)
		}
	}
	s.backend.kill(t)
	eventually(t, "the report is refreshed", func() error { // it may be 250 ms old
		if status := get(t, "/health").status; status != http.StatusServiceUnavailable {
			return fmt.Errorf("/health = %d", status)
		}
		return nil
	})
	get(t, "/health").wantProblem(t, http.StatusServiceUnavailable)
}

func TestDocumentation(t *testing.T) {
	newStack(t)
	page := get(t, "/docs")
	for hops := 0; page.status/100 == 3 && hops < 3; hops++ {
		page = get(t, strings.TrimPrefix(page.header.Get("Location"), "http://"+webAddress))
	}
	page.wantStatus(t, http.StatusOK)
	if !strings.Contains(page.header.Get("Content-Type"), "text/html") || !strings.Contains(page.body, "swagger-ui") {
		t.Errorf("not Swagger UI: %s\n%.500s", page.header.Get("Content-Type"), page.body)
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="([^"]+\.(?:js|css))"`).FindAllStringSubmatch(page.body, -1) {
		target := asset[1]
		if !strings.HasPrefix(target, "/") {
			target = "/docs/" + strings.TrimPrefix(target, "./")
		}
		file := get(t, target).wantStatus(t, http.StatusOK)
		// With nosniff, browsers accept scripts and styles only with the right type.
		if kind := file.header.Get("Content-Type"); !strings.Contains(kind, "javascript") && !strings.Contains(kind, "text/css") {
			t.Errorf("%s is %q", target, kind)
		}
	}
	var document struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(get(t, "/openapi.json").wantStatus(t, http.StatusOK).body), &document); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/put/{key}", "/get/{key}", "/cache/stats", "/db/stats", "/health"} {
		if document.Paths[path] == nil {
			t.Errorf("the document lacks %s", path)
		}
	}
}

func TestRequestID(t *testing.T) {
	s := newStack(t, "KV_LOG_LEVEL=debug", "KV_ACCESS_LOG=true")
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	t.Run("the caller's is kept", func(t *testing.T) {
		for hop, address := range s.addresses() {
			header := http.Header{"X-Request-Id": {"caller-" + hop}}
			for _, target := range []string{"/get/k", "/get/none", "/nothing", "/get/%00", "/health"} {
				got := request(t, address, http.MethodGet, target, header, "").header.Values("X-Request-Id")
				if !slices.Equal(got, header["X-Request-Id"]) {
					t.Errorf("%s at the %s: X-Request-Id %q", target, hop, got)
				}
			}
		}
	})
	t.Run("one that is not sane is replaced", func(t *testing.T) {
		for _, id := range []string{"", "a b", `"`, "<script>", "{}", strings.Repeat("x", 10_000), "\xff"} {
			answer := request(t, webAddress, http.MethodGet, "/get/k", http.Header{"X-Request-Id": {id}}, "")
			if got := answer.header.Values("X-Request-Id"); len(got) != 1 || got[0] == id || len(got[0]) < 8 {
				t.Errorf("for %.20q: X-Request-Id %q", id, got)
			}
		}
	})
	t.Run("each request gets its own", func(t *testing.T) {
		seen := map[string]bool{}
		for range 10 {
			seen[get(t, "/get/k").header.Get("X-Request-Id")] = true
		}
		if len(seen) != 10 || seen[""] {
			t.Errorf("ids: %v", seen)
		}
	})
	t.Run("all logs have it", func(t *testing.T) {
		for _, header := range []http.Header{nil, {"X-Request-Id": {"trace.me:1/2+3=4"}}} {
			// A failing request, because Traefik does not log fast successful ones.
			id := request(t, webAddress, http.MethodGet, "/get/none", header, "").wantStatus(t, http.StatusNotFound).header.Get("X-Request-Id")
			for _, p := range s.processes() {
				eventually(t, "the log of "+p.name+" has the request id "+id, func() error {
					if len(p.log.lines(id)) == 0 {
						return fmt.Errorf("no such line")
					}
					return nil
				})
			}
		}
	})
}
