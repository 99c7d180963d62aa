// Package internal_test checks rules for the whole repository, such as who may import whom.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed lists what each package may import besides the standard library. A name that ends
// with a slash allows everything below it. A directory without an entry uses that of its
// parent.
var allowed = map[string][]string{
	"kvstore/backend/kv":      {},
	"kvstore/backend/cache":   {"github.com/dgraph-io/ristretto/"},
	"kvstore/backend/jsondoc": {},
	"kvstore/backend/database": {
		"kvstore/backend/kv", "gorm.io/gorm", "gorm.io/gorm/clause",
		"github.com/google/uuid", "github.com/hashicorp/golang-lru/v2/", "go.opentelemetry.io/otel/",
	},
	"kvstore/backend/database/sqlite": {
		"kvstore/backend/database", "kvstore/backend/kv", "gorm.io/", "github.com/mattn/go-sqlite3",
		"github.com/gofrs/flock", "go.opentelemetry.io/otel/",
	},
	"kvstore/backend/database/postgres": {
		"kvstore/backend/database", "kvstore/backend/kv", "gorm.io/", "github.com/jackc/pgx/v5", "github.com/jackc/pgx/v5/",
		"github.com/google/uuid", "go.opentelemetry.io/otel/",
	},
	"kvstore/backend/database/postgres/postgrestest": {"kvstore/internal/postgresql", "github.com/jackc/pgx/v5"},
	"kvstore/backend/database/databasetest": {
		"kvstore/backend/kv", "kvstore/backend/database", "kvstore/backend/database/", "github.com/mattn/go-sqlite3",
		"github.com/jackc/pgx/v5/stdlib",
	},
	"kvstore/backend/importer": {
		"kvstore/backend/kv", "kvstore/backend/database", "kvstore/backend/database/sqlite", "github.com/mattn/go-sqlite3",
	},
	"kvstore/backend/store": {"kvstore/backend/kv", "kvstore/backend/cache", "kvstore/backend/database"},
	"kvstore/backend/api": {
		"kvstore/backend/kv", "kvstore/backend/jsondoc", "kvstore/backend/store", "kvstore/backend/docs", "kvstore/internal/",
		"github.com/gin-gonic/", "github.com/swaggo/", "go.opentelemetry.io/otel/trace",
	},
	"kvstore/backend/docs": {},
	"kvstore/backend": {
		"kvstore/backend/", "kvstore/internal/settings", "kvstore/internal/telemetry",
		"github.com/prometheus/client_golang/", "go.opentelemetry.io/otel/",
	},
	"kvstore/gateway": {
		"kvstore/gateway/", "kvstore/internal/", "github.com/prometheus/client_golang/", "go.opentelemetry.io/otel/",
		"golang.org/x/sync/singleflight",
	},
	"kvstore/gateway/access": {
		"kvstore/gateway/h1", "kvstore/internal/problem", "kvstore/internal/rfc3339", "go.yaml.in/yaml/",
	},
	"kvstore/gateway/h1": {},
	"kvstore/internal": {
		"kvstore/internal/", "github.com/dustin/go-humanize", "github.com/spf13/pflag", "github.com/google/uuid",
		"golang.org/x/sync/", "golang.org/x/mod/", "github.com/jackc/pgx/v5", "github.com/getkin/kin-openapi/",
	},
	"kvstore/internal/postgresql":              {"github.com/jackc/pgx/v5"},
	"kvstore/internal/telemetry/telemetrytest": {"go.opentelemetry.io/proto/otlp/", "google.golang.org/protobuf/proto"},
	"kvstore/internal/telemetry": {
		"kvstore/internal/", "github.com/google/uuid", "github.com/prometheus/client_golang/",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/",
	},
}

// notHTTP are the packages that must not import HTTP packages.
var notHTTP = []string{
	"kvstore/backend/kv", "kvstore/backend/cache", "kvstore/backend/database", "kvstore/backend/database/sqlite",
	"kvstore/backend/database/postgres", "kvstore/backend/store",
}

func TestImports(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "kvstore/...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		rule, ok := ruleOf(pkg.ImportPath)
		if !ok {
			t.Errorf("%s has no rule", pkg.ImportPath)
		}
		for _, imported := range pkg.Imports {
			if !standard(imported) && !matches(rule, imported) {
				t.Errorf("%s may not import %s", pkg.ImportPath, imported)
			}
			if strings.HasPrefix(imported, "net/http") && slices.Contains(notHTTP, pkg.ImportPath) {
				t.Errorf("%s may not know HTTP", pkg.ImportPath)
			}
			if imported == "os" && pkg.ImportPath == "kvstore/backend/database" {
				t.Errorf("%s may not know files: they are in %[1]s/sqlite", pkg.ImportPath)
			}
		}
	}
}

func ruleOf(path string) (rule []string, ok bool) {
	for {
		if rule, ok := allowed[path]; ok {
			return rule, true
		}
		cut := strings.LastIndexByte(path, '/')
		if cut < 0 {
			return nil, false
		}
		path = path[:cut]
	}
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != "kvstore"
}

func matches(rule []string, path string) bool {
	return slices.ContainsFunc(rule, func(name string) bool {
		return path == name || strings.HasSuffix(name, "/") && strings.HasPrefix(path, name)
	})
}
