package observability_test

import (
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// TestDashboardIsOne reads the dashboard with Grafana's own schema, strictly: a member
// that it does not know, such as one with a mistake in its name, fails.
func TestDashboardIsOne(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("grafana/dashboards/kvstore.json")
	if err != nil {
		t.Fatal(err)
	}
	var board grafana.Dashboard //nolint:staticcheck // the schema of files that are provisioned, still that of Grafana 12
	// Without a mistake it is an empty list, which is not nil.
	if err := board.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := board.Validate(); err != nil {
		t.Error(err)
	}
}
