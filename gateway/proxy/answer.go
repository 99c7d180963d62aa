package proxy

import (
	"errors"
	"net/http"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
	"kvstore/internal/parameters"
	"kvstore/internal/problem"
)

// The gateway's own answers may not be cached.
const notCached = "\r\nCache-Control: no-store\r\n"

func jsonAnswer(body []byte) *h1.Answer {
	return &h1.Answer{Status: http.StatusOK, Reason: "OK", Head: "Content-Type: application/json" + notCached, Body: body}
}

// problemAnswer adds Retry-After where the same request may succeed soon.
func problemAnswer(p *problem.Problem) *h1.Answer {
	a := &h1.Answer{
		Status: p.Status, Reason: problem.Phrase(p.Status), Head: "Content-Type: " + problem.ContentType + notCached, Body: p.Encode(),
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		a.Head += "Retry-After: 1\r\n"
	}
	return a
}

func refusal(status int, code, detail string) *h1.Answer {
	return problemAnswer(problem.New(status, code, detail))
}

func unavailable(code, detail string) *h1.Answer {
	return refusal(http.StatusServiceUnavailable, code, detail)
}

func answerLoop() *h1.Answer {
	return refusal(http.StatusLoopDetected, "loop_detected", "The request was not done: "+errLoop.Error())
}

func answerDenial(denial *access.Denial) *h1.Answer {
	a := problemAnswer(denial.Problem)
	if challenge := denial.Challenge(); challenge != "" {
		a.Head += "WWW-Authenticate: " + challenge + "\r\n"
	}
	return a
}

// answerMalformed answers a malformed request.
func answerMalformed(malformed *h1.Error) *h1.Answer {
	detail := malformed.Reason
	switch malformed.Status {
	case http.StatusRequestTimeout:
		detail += " (KV_HEADER_TIMEOUT)"
	case http.StatusRequestHeaderFieldsTooLarge:
	default:
		detail = "The request is not valid HTTP: " + detail
	}
	return refusal(malformed.Status, "malformed_request", detail)
}

// readOnly refuses requests other than GET and HEAD, and those with a parameter or a condition: the
// gateway's own endpoints have none. It returns nil for others.
func readOnly(x *h1.Exchange) *h1.Answer {
	if method := string(x.Method); method != http.MethodGet && method != http.MethodHead {
		a := refusal(http.StatusMethodNotAllowed, "method_not_allowed", method+" is not allowed here; allowed: GET, HEAD")
		a.Head += "Allow: GET, HEAD\r\n"
		return a
	}
	var unknown *problem.Problem
	if _, err := parameters.Parse(string(x.Query())); errors.As(err, &unknown) {
		return problemAnswer(unknown)
	}
	for _, field := range x.Fields {
		if h1.EqualFold(field.Name, "if-match") || h1.EqualFold(field.Name, "if-none-match") {
			return refusal(http.StatusBadRequest, "unsupported_condition",
				string(field.Name)+": is not a condition of this request")
		}
	}
	return nil
}
