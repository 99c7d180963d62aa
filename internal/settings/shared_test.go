package settings_test

import (
	"errors"
	"strings"
	"testing"

	"kvstore/internal/settings"
)

func TestApart(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		apart bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", false},
		{":1", "127.0.0.1:1", false},
		{"127.0.0.1:1", "0.0.0.0:1", false},
		{"[::1]:1", "[::]:1", false},
		{"127.0.0.1:1", "127.0.0.2:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", true},
		{"127.0.0.1:0", "127.0.0.1:0", true},
		{"127.0.0.1:1", "", true},
		{"", "", true},
	} {
		err := errors.Join(settings.Apart(settings.Address{Setting: "KV_A", Text: c.a}, settings.Address{Setting: "KV_B", Text: c.b})...)
		if (err == nil) != c.apart {
			t.Errorf("%q and %q: %v", c.a, c.b, err)
		}
		if err != nil && !strings.Contains(err.Error(), `KV_B="`+c.b+`": is the address of KV_A`) {
			t.Errorf("%q and %q: %v", c.a, c.b, err)
		}
	}
}

func TestTracesEndpoint(t *testing.T) {
	for _, c := range []struct{ all, traces, disabled, want string }{
		{"http://h:1", "", "", "http://h:1/v1/traces"},
		{"http://h:1/", "", "false", "http://h:1/v1/traces"},
		{"http://h:1/p/", "", "", "http://h:1/p/v1/traces"},
		{"http://h:1", "http://t/x", "", "http://t/x"},
		{"http://h:1", "http://t/x", "TRUE", ""},
		{"", "", "", ""},
	} {
		env := map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": c.all, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.traces, "OTEL_SDK_DISABLED": c.disabled,
		}
		if got := settings.TracesEndpoint(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestTracesRatio(t *testing.T) {
	for _, c := range []struct {
		sampler, arg string
		want         float64
	}{
		{"", "", 1}, {"", "0.5", 1}, {"traceidratio", "0.25", 0.25}, {"parentbased_traceidratio", "0", 0}, {"traceidratio", "2", 1},
		{"traceidratio", "", 1}, {"parentbased_always_on", "0.1", 1}, {"parentbased_always_off", "", 0},
	} {
		env := map[string]string{"OTEL_TRACES_SAMPLER": c.sampler, "OTEL_TRACES_SAMPLER_ARG": c.arg}
		if got := settings.TracesRatio(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
