package telemetry_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"kvstore/internal/telemetry"
)

func TestRequestIDOr(t *testing.T) {
	for _, given := range []string{"a", "A-b_c.d:e/f+g=", strings.Repeat("x", 128)} {
		if got := telemetry.RequestIDOr([]byte(given)); got != given {
			t.Errorf("%q became %q", given, got)
		}
	}
	seen := map[string]bool{}
	for _, given := range []string{"", "a b", "a\nb", "a;b", "é", strings.Repeat("x", 129)} {
		got := telemetry.RequestIDOr([]byte(given))
		id, err := uuid.Parse(got)
		if err != nil || id.Version() != 4 || id.Variant() != uuid.RFC4122 || seen[got] {
			t.Errorf("%q became %q, %v", given, got, err)
		}
		seen[got] = true
	}
}

func TestWithRequestID(t *testing.T) {
	if got := telemetry.RequestID(telemetry.WithRequestID(t.Context(), "id")); got != "id" {
		t.Errorf("got %q", got)
	}
}
