package programs_test

import (
	"bytes"
	"os"
	"testing"

	"kvstore/internal/up/programs"
)

// TestTracingFile: the file for containers with traces is the one without, and what
// TracingConfig adds. UPDATE=1 writes it.
func TestTracingFile(t *testing.T) {
	const file = "../../../traefik/traefik-tracing.yml"
	static, err := os.ReadFile("../../../traefik/traefik.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := programs.TracingConfig(static, "http://jaeger:4318/v1/traces", 1)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: UPDATE=1 go test ./internal/up/programs", file)
	}
}
