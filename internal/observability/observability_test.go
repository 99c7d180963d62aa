// Package observability_test checks the alert rules and the dashboard, with Prometheus' own
// parsers, against the metrics of the programs. It is a separate module, so that the programs
// do not depend on Prometheus.
package observability_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"kvstore/backend/database/postgres/postgrestest"
)

const patience = 30 * time.Second

// exposed maps the names of the metrics of both programs to their series.
type exposed map[string][]map[string]string

// build compiles a program of the repository.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", path, "./"+name)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// start runs a program until the end of the test.
func start(t *testing.T, path string, env ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log of %s:\n%s", path, text)
		}
		log.Close()
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func get(url string) (int, string, error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// await polls url until the answer is 200 and contains all of want.
func await(t *testing.T, url string, want ...string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		status, body, err := get(url)
		missing := ""
		for _, text := range want {
			if !strings.Contains(body, text) {
				missing = text
			}
		}
		if err == nil && status == http.StatusOK && missing == "" {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d %v, without %s in\n%.3000s", url, status, err, missing, body)
		}
	}
}

// scrape sends requests through both programs and returns their metrics, which must count
// these requests.
func scrape(t *testing.T) exposed {
	t.Helper()
	backend, gateway, ofBackend, ofGateway := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	start(t, build(t, "backend"), "KV_DATABASE_URL=sqlite:"+filepath.Join(t.TempDir(), "kv.db"), "KV_BACKEND_ADDR="+backend, "KV_METRICS_ADDR="+ofBackend)
	await(t, "http://"+backend+"/healthz")
	start(t, build(t, "gateway"), "KV_GATEWAY_ADDR="+gateway, "KV_BACKENDS=http://"+backend, "KV_METRICS_ADDR="+ofGateway)
	await(t, "http://"+gateway+"/health")
	const puts, gets = 20, 30
	for i := range puts {
		request, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://%s/put/k%d", gateway, i), strings.NewReader(`{"value":1}`))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	for i := range gets {
		if _, _, err := get(fmt.Sprintf("http://%s/get/k%d", gateway, i)); err != nil {
			t.Fatal(err)
		}
	}
	lines := []string{
		fmt.Sprintf(`_requests_total{method="PUT",route="/put/{key}",status="200"} %d`, puts),
		fmt.Sprintf(`_requests_total{method="GET",route="/get/{key}",status="200"} %d`, puts),
		fmt.Sprintf(`_requests_total{method="GET",route="/get/{key}",status="404"} %d`, gets-puts),
		fmt.Sprintf(`_request_duration_seconds_count{route="/get/{key}"} %d`, gets),
	}
	prefixed := func(prefix string, more ...string) (all []string) {
		for _, line := range lines {
			all = append(all, prefix+line)
		}
		return append(all, more...)
	}
	backendText := await(t, "http://"+ofBackend+"/metrics", prefixed("kv_http",
		fmt.Sprintf("kv_writer_batch_versions_sum %d", puts), fmt.Sprintf("kv_cache_hits_total %d", puts),
		fmt.Sprintf("kv_cache_misses_total %d", gets-puts), fmt.Sprintf("kv_database_revision %d", puts))...)
	gatewayText := await(t, "http://"+ofGateway+"/metrics", prefixed("kv_gateway",
		fmt.Sprintf(`kv_gateway_backend_healthy{backend="%s"} 1`, backend),
		fmt.Sprintf(`kv_gateway_backend_requests_total{backend="%s",kind="read"} %d`, backend, gets),
		fmt.Sprintf(`kv_gateway_backend_requests_total{backend="%s",kind="write"} %d`, backend, puts),
		fmt.Sprintf(`kv_gateway_backend_lag_seconds{backend="%s"} 0`, backend),
		"kv_gateway_writes_diverted_total 0", "kv_gateway_backends_differ 0")...)
	all := exposed{"up": {{"job": "", "instance": ""}}}
	all.add(t, backendText)
	all.add(t, gatewayText)
	all.add(t, withAccess(t, backend))
	all.add(t, onPostgres(t))
	return all
}

// onPostgres returns the metrics of a backend whose database is on a server that waits for a standby.
func onPostgres(t *testing.T) string {
	t.Helper()
	server := postgrestest.Server(t, nil)
	url, metrics := server.URL("postgres"), freeAddress(t)
	start(t, build(t, "backend"), "KV_DATABASE_URL="+url, "KV_BACKEND_ADDR="+freeAddress(t), "KV_METRICS_ADDR="+metrics)
	await(t, "http://"+metrics+"/metrics", "kv_database_up 1", "kv_shared_lease_held 1")
	postgrestest.Exec(t, url, "ALTER SYSTEM SET synchronous_standby_names = 'none'")
	postgrestest.Exec(t, url, "SELECT pg_reload_conf()")
	return await(t, "http://"+metrics+"/metrics", "kv_database_synchronous_standbys 0", `kv_database_connections{pool="readers"}`)
}

// withAccess returns the metrics of a gateway with a file of tokens.
func withAccess(t *testing.T, backend string) string {
	t.Helper()
	tokens := filepath.Join(t.TempDir(), "tokens.yml")
	if err := os.WriteFile(tokens, []byte("tokens: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	metrics := freeAddress(t)
	start(t, build(t, "gateway"), "KV_GATEWAY_ADDR="+freeAddress(t), "KV_BACKENDS=http://"+backend, "KV_METRICS_ADDR="+metrics, "KV_TOKENS_FILE="+tokens)
	return await(t, "http://"+metrics+"/metrics", "kv_gateway_tokens_file_usable 1")
}

func (e exposed) add(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parse := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parse.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		for _, m := range family.Metric {
			series := map[string]string{"job": "", "instance": ""} // Prometheus adds them
			for _, pair := range m.Label {
				series[pair.GetName()] = pair.GetValue()
			}
			kind := family.GetType()
			if kind == dto.MetricType_HISTOGRAM {
				withBound := maps.Clone(series)
				withBound["le"] = ""
				e[name+"_bucket"] = append(e[name+"_bucket"], withBound)
			}
			if kind == dto.MetricType_HISTOGRAM || kind == dto.MetricType_SUMMARY {
				e[name+"_sum"] = append(e[name+"_sum"], series)
				e[name+"_count"] = append(e[name+"_count"], series)
				continue
			}
			e[name] = append(e[name], series)
		}
	}
}

// check parses an expression and looks up each of its metrics and labels.
func (e exposed) check(expression string) error {
	expression = strings.ReplaceAll(expression, "$__rate_interval", "5m")
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	var failed error
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok && failed == nil {
			failed = e.checkSelector(selector, found)
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if aggregate, ok := node.(*parser.AggregateExpr); ok && failed == nil {
			for _, name := range aggregate.Grouping {
				if !found[name] {
					failed = fmt.Errorf("no series has the label %s", name)
				}
			}
		}
		return nil
	})
	return failed
}

// checkSelector adds the labels of the selected series to found. For each matcher, some
// series must have its label, and its value if it asks for one.
func (e exposed) checkSelector(selector *parser.VectorSelector, found map[string]bool) error {
	series := e[selector.Name]
	if len(series) == 0 {
		return fmt.Errorf("no program exposes %s", selector.Name)
	}
	for _, s := range series {
		for name := range s {
			found[name] = true
		}
	}
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name == model.MetricNameLabel || matcher.Name == "job" || matcher.Name == "instance" {
			continue
		}
		if !found[matcher.Name] {
			return fmt.Errorf("%s has no label %s", selector.Name, matcher.Name)
		}
		some := matcher.Type != labels.MatchEqual
		for _, s := range series {
			some = some || matcher.Matches(s[matcher.Name])
		}
		if !some {
			return fmt.Errorf("no series of %s has %s", selector.Name, matcher)
		}
	}
	return nil
}

// dashboard holds the parts of Grafana's dashboard that are checked.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

func TestDashboardAndAlerts(t *testing.T) {
	metrics := scrape(t)
	used := map[string]bool{}
	note := func(expression string) {
		for name := range metrics {
			if strings.Contains(expression, name) {
				used[name] = true
			}
		}
	}

	groups, errs := rulefmt.ParseFile("alerts.yml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	rules := 0
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			rules++
			if err := metrics.check(rule.Expr); err != nil {
				t.Errorf("alert %s: %v", rule.Alert, err)
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("alert %s lacks a severity, a summary or a description", rule.Alert)
			}
			note(rule.Expr)
		}
	}

	text, err := os.ReadFile("grafana/dashboards/kvstore.json")
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids, expressions := map[int]bool{}, 0
	for _, panel := range board.Panels {
		if ids[panel.ID] || panel.GridPos.W == 0 || panel.GridPos.X+panel.GridPos.W > 24 {
			t.Errorf("panel %q has no unique place or id", panel.Title)
		}
		ids[panel.ID] = true
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			expressions++
			if err := metrics.check(target.Expr); err != nil {
				t.Errorf("panel %q: %v in %s", panel.Title, err, target.Expr)
			}
			note(target.Expr)
		}
	}
	if rules < 10 || expressions < 30 {
		t.Errorf("%d rules and %d expressions were checked", rules, expressions)
	}
	for name := range metrics {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "kv_") && !used[name] && !used[base+"_bucket"] && !used[base+"_sum"] {
			t.Logf("%s is on no dashboard and in no alert", name)
		}
	}
	t.Logf("%d alerts, %d expressions of the dashboard, %d names of metrics", rules, expressions, len(metrics))
}

// TestMistakesAreFound tests the check itself.
func TestMistakesAreFound(t *testing.T) {
	metrics := exposed{"kv_a_total": {{"job": "", "route": "x"}}}
	for _, expression := range []string{
		"rate(kv_b_total[5m])", `kv_a_total{route="y"}`, `kv_a_total{method="x"}`, "sum by (method) (kv_a_total)", "sum(", "rate(kv_a_total)",
	} {
		if metrics.check(expression) == nil {
			t.Errorf("%s passes", expression)
		}
	}
	if err := metrics.check(`sum by (route) (rate(kv_a_total{route="x", job=~"kv-.*"}[$__rate_interval]))`); err != nil {
		t.Error(err)
	}
}
