package observability_test

import (
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// TestDashboardSchema reads the dashboard with Grafana's schema, and fails on unknown members,
// such as misspelled ones.
func TestDashboardSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("grafana/dashboards/kvstore.json")
	if err != nil {
		t.Fatal(err)
	}
	var board grafana.Dashboard //nolint:staticcheck // the schema of files that are provisioned, still that of Grafana 12
	// If there are no mistakes, the error is an empty list rather than nil.
	if err := board.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := board.Validate(); err != nil {
		t.Error(err)
	}
}
