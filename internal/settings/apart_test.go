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
