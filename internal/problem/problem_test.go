package problem_test

import (
	"net/http/httptest"
	"testing"

	"kvstore/internal/problem"
)

func TestWrite(t *testing.T) {
	for want, p := range map[string]*problem.Problem{
		`{"type":"about:blank","title":"Not Found","status":404,"detail":"Key '<k>' not found","code":"key_not_found"}`: problem.New(404, "key_not_found", "Key '<k>' not found"),
		`{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"d","code":"c","parts":[1]}`:         problem.New(503, "c", "d").With("parts", []int{1}),
		`{"type":"about:blank","title":"Conflict","status":409,"detail":"d","code":"c"}`:                                problem.New(409, "c", "d").With("bad", func() {}),
	} {
		recorder := httptest.NewRecorder()
		p.Write(recorder)
		if got := recorder.Body.String(); got != want+"\n" {
			t.Errorf("got %s want %s", got, want)
		}
		if recorder.Code != p.Status || recorder.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v", recorder.Code, recorder.Header())
		}
	}
}
