//go:build browser

// Package browsertest_test opens the documentation of a running service in Chromium and
// tries every operation like a user: open it, "Try it out", "Execute", and read the
// answer. It starts the three programs with bin/up, and needs Chromium and the ports of a
// local run.
//
//	go test -tags browser -count=1 -v ./internal/browsertest
package browsertest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"kvstore/backend/docs"
)

// trials are the operations with the expected status, in an order in which each can succeed
// with the example values of the page.
var trials = []struct {
	method, path string
	status       string
	fields       map[string]string // to fill in
}{
	{"put", "/put/{key}", "200", nil},
	{"post", "/put/{key}", "200", nil},
	{"get", "/get/{key}", "200", nil},
	{"patch", "/patch/{key}", "200", nil},
	{"get", "/diff/{key}", "200", nil},
	{"get", "/history/{key}", "200", nil},
	{"get", "/keys", "200", nil},
	{"post", "/batch", "200", nil},
	{"delete", "/delete/{key}", "200", nil},
	{"post", "/revert/{key}", "200", nil},
	{"post", "/destroy/{key}", "200", map[string]string{"versions": "1"}},
	{"get", "/watch", "200", map[string]string{"for": "100ms", "since": "0"}},
	{"get", "/cache/stats", "200", nil},
	{"get", "/db/stats", "200", nil},
	{"get", "/health", "200", nil},
	{"get", "/openapi.json", "200", nil},
	{"get", "/healthz", "404", nil}, // not public
	{"get", "/readyz", "404", nil},
	{"post", "/db/compact", "404", nil},
	{"get", "/db/backup", "404", nil},
	{"get", "/docs", "200", nil}, // the browser follows the redirect
	{"get", "/docs/{file}", "200", nil},
}

// openDocs starts the service and opens the page of its documentation.
func openDocs(t *testing.T) context.Context {
	t.Helper()
	startService(t)
	ctx := startBrowser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(service+"/docs"), chromedp.WaitVisible(".opblock")); err != nil {
		t.Fatalf("the page does not show the operations: %v", err)
	}
	return ctx
}

func TestEveryOperationInTheBrowser(t *testing.T) {
	ctx := openDocs(t)
	tried := map[string]bool{}
	for _, trial := range trials {
		name := trial.method + " " + trial.path
		t.Run(name, func(t *testing.T) {
			tried[name] = true
			status, body, err := try(ctx, trial.method, trial.path, trial.fields)
			if err != nil {
				t.Fatal(err)
			}
			if status != trial.status {
				t.Errorf("status %s, want %s; the page shows %.300s", status, trial.status, body)
			}
		})
	}
	for _, name := range operations(t) {
		if !tried[name] {
			t.Errorf("%s is documented but was not tried", name)
		}
	}
}

// TestNumbersInTheBrowser checks that a value that is typed into the page is stored and
// shown to the digit.
func TestNumbersInTheBrowser(t *testing.T) {
	const value = `{"id":12345678901234567890,"ratio":0.1000}`
	ctx := openDocs(t)
	if _, body, err := try(ctx, "put", "/put/{key}", map[string]string{"": `{"value":` + value + `}`}); err != nil {
		t.Fatalf("%v; the page shows %s", err, body)
	}
	response, err := http.Get(service + "/get/app/db/host?raw=true")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if stored, err := io.ReadAll(response.Body); err != nil || string(stored) != value {
		t.Errorf("stored: %s, %v; want %s", stored, err, value)
	}
	_, body, err := try(ctx, "get", "/get/{key}", nil)
	if err != nil || !strings.Contains(body, value) {
		t.Errorf("the page shows %.500s, %v; want %s in it", body, err, value)
	}
	broken, err := chromedp.Run(ctx, chromedp.Evaluate[string](`
		new Promise(resolve => new ReportingObserver(reports => resolve(JSON.stringify(reports)), {types: ["csp-violation"], buffered: true}).observe() || setTimeout(resolve, 1000, ""))
	`, chromedp.EvalAwaitPromise))
	if err != nil || broken != "" {
		t.Errorf("the page violates its policy: %s, %v", broken, err)
	}
}

// try tries an operation like a user and returns what the page shows. The field without a
// name is the body.
func try(ctx context.Context, method, path string, fields map[string]string) (status, body string, err error) {
	block := fmt.Sprintf(`//div[contains(@class,"opblock-%s")][.//span[@data-path=%q]]`, method, path)
	live := block + `//table[contains(@class,"live-responses-table")]//tbody`
	button := func(class string) chromedp.Action[chromedp.Void] {
		return chromedp.Click(block + fmt.Sprintf(`//button[contains(@class,%q)]`, class))
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, button("opblock-summary-control"), button("try-out__btn")); err != nil {
		return "", "", fmt.Errorf("open: %w", err)
	}
	for name, value := range fields {
		field := block + fmt.Sprintf(`//tr[@data-param-name=%q]//input`, name)
		if name == "" {
			field = block + `//textarea[contains(@class,"body-param__text")]`
		}
		overwrite := fmt.Sprintf("document.evaluate(%q, document, null, 9, null).singleNodeValue.select()", field)
		if err := chromedp.Do(ctx, chromedp.WaitVisible(field), chromedp.Evaluate[chromedp.Void](overwrite), chromedp.SendKeys(field, value)); err != nil {
			return "", "", fmt.Errorf("fill in %s: %w", name, err)
		}
	}
	if err := chromedp.Do(ctx, button("execute")); err != nil {
		return "", "", fmt.Errorf("execute: %w", err)
	}
	if status, err = chromedp.Run(ctx, chromedp.Text(live+`//td[contains(@class,"response-col_status")]`)); err != nil {
		return "", "", fmt.Errorf("read the status: %w", err)
	}
	if body, err = chromedp.Run(ctx, chromedp.Text(live+`//td[contains(@class,"response-col_description")]`)); err != nil {
		return "", "", fmt.Errorf("read the answer: %w", err)
	}
	status, _, _ = strings.Cut(strings.TrimSpace(status), "\n")
	return status, body, chromedp.Do(ctx, button("opblock-summary-control"))
}

// operations returns all documented operations except for HEAD.
func operations(t *testing.T) (names []string) {
	t.Helper()
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(docs.OpenAPI, &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method := range methods {
			if method != strings.ToLower(http.MethodHead) {
				names = append(names, method+" "+path)
			}
		}
	}
	return names
}
