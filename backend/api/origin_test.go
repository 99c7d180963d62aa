package api_test

import "testing"

// A page of another site may not write with the browser of somebody who can reach the
// service; a page of ours may, and so may what is no browser.
func TestOrigins(t *testing.T) {
	s := start(t)
	for _, test := range []struct {
		method, target string
		status         int
		header         []string
	}{
		{"PUT", "/put/k", 200, nil},
		{"POST", "/put/k", 403, []string{"Origin", "https://evil.example"}},
		{"POST", "/put/k", 403, []string{"Origin", "null"}},
		{"POST", "/put/k", 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{"DELETE", "/delete/k", 403, []string{"Sec-Fetch-Site", "same-site"}},
		{"POST", "/put/k", 200, []string{"Sec-Fetch-Site", "same-origin"}},
		{"POST", "/put/k", 200, []string{"Origin", s.URL}},
		{"GET", "/get/k", 200, []string{"Origin", "https://evil.example"}},
	} {
		got := s.do(t, test.method, test.target, `{"value":1}`, test.header...)
		if got.status != test.status {
			t.Errorf("%s %s %v = %d %s, want %d", test.method, test.target, test.header, got.status, got.body, test.status)
		}
		if got.status == 403 && got.problem(t)["code"] != "cross_origin" {
			t.Errorf("%v: %s", test.header, got.body)
		}
	}
}
