package parameters_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"kvstore/internal/parameters"
	"kvstore/internal/problem"
)

func TestParse(t *testing.T) {
	known := []string{"ttl", "prefix", "versions" + parameters.List}
	for _, test := range []struct{ query, name, want string }{
		{"", "ttl", ""},
		{"ttl=1h", "ttl", "1h"},
		{"t%74l=%31h", "ttl", "1h"},
		{"ttl", "ttl", ""},
		{"&&ttl=1h&", "ttl", "1h"},
		{"prefix=a;b=c", "prefix", "a;b=c"},
		{"prefix=a+b%2Bc", "prefix", "a b+c"},
		{"_=1764000000&_=2&ttl=1s&_TTL", "ttl", "1s"},
		{"versions=4&versions=5,6&ttl=1s&%76ersions=7", "versions", "4,5,6,7"},
		{"versions=1&versions=", "versions", "1,"},
	} {
		set, err := parameters.Parse(test.query, known...)
		if err != nil || set.Text(test.name) != test.want || set.Has(test.name) != (test.query != "") {
			t.Errorf("%q: %s is %q, %t, %v, want %q", test.query, test.name, set.Text(test.name), set.Has(test.name), err, test.want)
		}
	}
	const names = "is unknown; the known ones are ttl, prefix, versions"
	for query, want := range map[string]string{
		"TTL=1h":                          "unknown_parameter: query: the parameter 'TTL' " + names,
		"ttl=1h&x":                        "unknown_parameter: query: the parameter 'x' " + names,
		"=1":                              "unknown_parameter: query: the parameter '' " + names,
		"ttl;x=1":                         "unknown_parameter: query: the parameter 'ttl;x' " + names,
		"ttl%20=1":                        "unknown_parameter: query: the parameter 'ttl ' " + names,
		"ttl...=1":                        "unknown_parameter: query: the parameter 'ttl...' " + names,
		"versions...=1":                   "unknown_parameter: query: the parameter 'versions...' " + names,
		"%ff=1":                           "unknown_parameter: query: the parameter '\ufffd' " + names,
		strings.Repeat("é", 60_000) + "=": "unknown_parameter: query: the parameter '" + strings.Repeat("é", 50) + "…' " + names,
		"ttl=1h&ttl=1h":                   "repeated_parameter: ttl: is given more than once",
		"ttl=1h&t%74l=":                   "repeated_parameter: ttl: is given more than once",
		"ttl=%zz":                         `malformed_query: query: invalid URL escape "%zz"`,
		"_%=1":                            `malformed_query: query: invalid URL escape "%"`,
	} {
		_, err := parameters.Parse(query, known...)
		var p *problem.Problem
		if !errors.As(err, &p) || p.Code+": "+p.Detail != want {
			t.Errorf("%.50q: %v, want %s", query, err, want)
		}
	}
	if _, err := parameters.Parse("a=1"); err == nil || err.Error() != "query: the parameter 'a' is unknown; this request has none" {
		t.Errorf("without any: %v", err)
	}
}

// FuzzParse tests that what Parse accepts means the same to net/url.
func FuzzParse(f *testing.F) {
	for _, query := range []string{"a=1&b=2", "a=1&a=2", "list=1&list=2&_=3", "%61=%zz", "a;b", "=&&=", "a=+%2b"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		set, err := parameters.Parse(query, "a", "b", "list"+parameters.List)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
		if err != nil {
			t.Fatalf("%q is accepted: %v", query, err)
		}
		for name, values := range want {
			if ignored := strings.HasPrefix(name, "_"); set.Has(name) == ignored || !ignored && set.Text(name) != strings.Join(values, ",") {
				t.Fatalf("%q: %q is %q, want %q", query, name, set.Text(name), values)
			}
		}
	})
}
