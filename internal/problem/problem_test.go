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

// The phrases are those of the IANA registry.
func TestPhrase(t *testing.T) {
	for status, want := range map[int]string{
		200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large", 414: "URI Too Long",
		416: "Range Not Satisfiable", 422: "Unprocessable Content", 431: "Request Header Fields Too Large", 507: "Insufficient Storage", 499: "",
	} {
		if got := problem.Phrase(status); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
		if got := problem.New(status, "c", "d").Title; got != want {
			t.Errorf("the title of %d is %q, want %q", status, got, want)
		}
	}
}
