package telemetry_test

import (
	"testing"

	"kvstore/internal/telemetry"
)

func TestWithoutTokens(t *testing.T) {
	const token = "kv_KzVAlHO0RRVGcrIkg9sa0jJ_tzVhF3B2oYt30QVFB7w"
	for url, want := range map[string]string{
		"/get/app/k?version=1":                         "/get/app/k?version=1",
		"/get/kv_store/k":                              "/get/kv_store/k",
		"/get/k?access_token=" + token:                 "/get/k?access_token=...",
		"/get/k?raw=true&Token=a.b&x&%62earer=c&d=":    "/get/k?raw=true&Token=...&x&%62earer=...&d=",
		"/get/k?api_key=a=b&auth_token=a;b?c&token&":   "/get/k?api_key=...&auth_token=...&token&",
		"/get/k?a=%zz&%zz=1&nottoken=1":                "/get/k?a=%zz&%zz=1&nottoken=1",
		"/get/" + token + "?":                          "/get/kv_...?",
		"/get/k?a=" + token + "&b=" + token + "&raw=1": "/get/k?a=kv_...&b=kv_...&raw=1",
		"/get/" + token + "/k":                         "/get/kv_.../k",
		"/get/k?t=kv%5F" + token[3:]:                   "/get/k?t=kv_...",
	} {
		if got := telemetry.WithoutTokens(url); got != want {
			t.Errorf("%s is %s", url, got)
		}
	}
}
