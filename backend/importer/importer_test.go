package importer_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/importer"
	"kvstore/backend/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ddl is the predecessor's schema. The type of the values is a parameter.
const ddl = `CREATE TABLE keys (key TEXT PRIMARY KEY, created_at REAL, updated_at REAL);
	CREATE TABLE "values" (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, value %s, version INTEGER, timestamp REAL)`

// A fixture is a database as the predecessor writes it.
type fixture struct {
	path string
	db   *sql.DB
	t    *testing.T
}

func newFixture(t *testing.T, valueType string) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "old", "kv_store.db"), t: t}
	if err := os.Mkdir(filepath.Dir(f.path), 0o750); err != nil {
		t.Fatal(err)
	}
	f.open()
	f.exec(fmt.Sprintf(ddl, valueType))
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.db, err = sql.Open("sqlite3", f.path); err != nil {
		f.t.Fatal(err)
	}
	f.db.SetMaxOpenConns(1)
	f.t.Cleanup(func() { f.db.Close() })
}

func (f *fixture) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(query, args...); err != nil {
		f.t.Fatal(err)
	}
}

// add writes a version as the predecessor did.
func (f *fixture) add(key any, version any, value any, timestamp any) {
	f.t.Helper()
	f.exec("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", key, timestamp, timestamp)
	f.exec(`INSERT INTO "values" (key, value, version, timestamp) VALUES (?, ?, ?, ?)`, key, value, version, timestamp)
}

func (f *fixture) close() {
	f.t.Helper()
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
}

var importTime = time.Unix(2_000_000_000, 0)

// run imports and returns what was reported.
func run(t *testing.T, path string, db *database.DB, change func(*importer.Config)) (importer.Summary, string) {
	t.Helper()
	var log strings.Builder
	cfg := importer.Config{
		Source: path, Database: db, MaxValueBytes: 1 << 20, Now: importTime,
		Logf: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
	}
	if change != nil {
		change(&cfg)
	}
	sum, err := importer.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sum, log.String()
}

func version(t *testing.T, db *database.DB, key string, n int64) kv.Entry {
	t.Helper()
	entry, err := db.Version(t.Context(), key, n)
	if err != nil {
		t.Fatalf("%s version %d: %v", key, n, err)
	}
	return entry
}

// TestEveryVersion imports values as json.dumps writes them, compares every version,
// and imports the same file again.
func TestEveryVersion(t *testing.T) {
	f := newFixture(t, "TEXT")
	values := []string{`"\u65e5\u672c"`, `{"a": 1, "b": [null, true, 0.1000]}`, `12345678901234567890`, `null`, `"` + strings.Repeat("x", 50_000) + `"`}
	var want []kv.Entry
	next := map[string]int64{}
	for i := range 60 {
		key := []string{"a", "b/c", "日本"}[i%7%3]
		next[key]++
		value := values[i%len(values)]
		f.add(key, next[key], value, 1_700_000_000.123456+float64(i/2)) // pairs have one time
		want = append(want, kv.Entry{
			Key: key, Value: []byte(value), Version: next[key], Revision: int64(i + 1),
			Time: kv.Timestamp(1_700_000_000_123456 + int64(i/2)*1_000_000), Operation: kv.OpPut,
		})
	}
	f.close()
	db := databasetest.Open(t, databasetest.FileURL(t))
	dry, _ := run(t, f.path, db, func(cfg *importer.Config) { cfg.DryRun = true })
	if stats, err := db.Stats(t.Context()); err != nil || stats.Totals != (kv.Totals{}) {
		t.Errorf("after a dry run: %+v, %v", stats, err)
	}
	sum, log := run(t, f.path, db, nil)
	if diff := cmp.Diff(importer.Summary{Keys: 3, Versions: 60}, sum); diff != "" || sum != dry || log != "" {
		t.Errorf("%s, dry run %+v, log: %s", diff, dry, log)
	}
	for _, entry := range want {
		if diff := cmp.Diff(entry, version(t, db, entry.Key, entry.Version)); diff != "" {
			t.Error(diff)
		}
	}
	totals := kv.Totals{Revision: 60, Keys: 3, Versions: 60}
	again, log := run(t, f.path, db, nil)
	if diff := cmp.Diff(importer.Summary{AlreadyKeys: 3}, again); diff != "" || log != "" {
		t.Errorf("the second time: %s, log: %s", diff, log)
	}
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Totals != totals {
		t.Errorf("%+v, %v, want %+v", stats, err, totals)
	}
	for key, n := range next {
		if entry, err := db.Latest(t.Context(), key); err != nil || entry.Version != n {
			t.Errorf("the latest of %s: %v, %v", key, entry.Version, err)
		}
	}
}

// TestSkipped checks that everything that cannot be kept is reported with the reason,
// and that the rest is imported.
func TestSkipped(t *testing.T) {
	f := newFixture(t, "JSON") // numbers are kept as numbers
	f.add("", 1, `1`, 10.0)
	f.add("bad\x00key", 1, `1`, 10.0)
	f.add(strings.Repeat("k", 513), 1, `1`, 10.0)
	f.add([]byte("blob"), 1, `1`, 10.0)
	f.add("gap", 1, `1`, 10.0)
	f.add("gap", 3, `1`, 11.0)
	f.add("twice", 1, `1`, 10.0)
	f.add("twice", 1, `2`, 11.0)
	f.add("from two", 2, `2`, 11.0)
	f.add("nan", 1, `1`, 10.0)
	f.add("nan", 2, `NaN`, 11.0)
	f.add("nan", 3, `{"x": Infinity}`, 12.0)
	f.add("nan", 4, `4`, 13.0)
	f.add("nan at the end", 1, `1`, 10.0)
	f.add("nan at the end", 2, `-Infinity`, 11.0)
	f.add("only nan", 1, `NaN`, 11.0)
	f.add("large", 1, `"`+strings.Repeat("x", 2_000)+`"`, 10.0)
	f.add("large", 2, `2`, 10.0)
	f.add("numbers", 1, `5`, 10.0)
	f.add("numbers", 2, `0.30000000000000004`, 11.0)
	f.add("numbers", 3, nil, 12.0)
	f.add("numbers", 4, math.Inf(1), 13.0)
	f.add("backwards", 1, `1`, 20.0)
	f.add("backwards", 2, `2`, 15.0)
	f.add("backwards", 3, `3`, "late")
	f.add("backwards", 4, `4`, 3e9)
	f.exec("INSERT INTO keys VALUES ('empty', 1, 1)")
	f.close()
	db := databasetest.Open(t, databasetest.FileURL(t))
	sum, log := run(t, f.path, db, func(cfg *importer.Config) { cfg.MaxValueBytes = 1_000 })
	want := importer.Summary{Keys: 5, Versions: 11, SkippedKeys: 9, SkippedVersions: 5, Clamped: 3}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		`key "" is skipped: key: must not be empty`,
		`key "bad\x00key" is skipped: key: has the control character U+0000 at byte 3`,
		`is skipped: key: has 513 bytes, the limit is 512`,
		`key "blob" is skipped: it is not text`,
		`key "gap" is skipped: its versions are not numbered 1, 2, 3: found 3 instead of 2`,
		`key "twice" is skipped: its versions are not numbered 1, 2, 3: found 1 instead of 2`,
		`key "from two" is skipped: its versions are not numbered 1, 2, 3: found 2 instead of 1`,
		`version 2 of key "nan" is skipped: its value is not JSON: "NaN"`,
		`version 3 of key "nan" is skipped: its value is not JSON: "{\"x\": Infinity}"`,
		`version 2 of key "nan at the end" is skipped: its value is not JSON: "-Infinity"`,
		`key "only nan" is skipped: it has no version left`,
		`version 1 of key "large" is skipped: its value has 2002 bytes, the limit is 1000 (KV_MAX_VALUE_BYTES)`,
		`version 4 of key "numbers" is skipped: its value is not JSON: +Inf`,
		`key "backwards": the times of 3 versions went backwards or were in the future, and were changed`,
		`key "empty" is skipped: it has no version`,
	} {
		if !strings.Contains(log, line+"\n") {
			t.Errorf("the log lacks: %s", line)
		}
	}
	if t.Failed() {
		t.Log(log)
	}
	for n, value := range map[int64]string{1: `5`, 2: `0.30000000000000004`, 3: `null`} {
		if entry := version(t, db, "numbers", n); string(entry.Value) != value {
			t.Errorf("numbers, version %d: %s, want %s", n, entry.Value, value)
		}
	}
	var times []kv.Timestamp
	for n := range int64(4) {
		times = append(times, version(t, db, "backwards", n+1).Time)
	}
	if want := []kv.Timestamp{20e6, 20e6, 20e6, kv.NewTimestamp(importTime)}; !slices.Equal(times, want) {
		t.Errorf("the times of backwards are %v, want %v", times, want)
	}
	for key, latest := range map[string]int64{"nan": 4, "nan at the end": 1, "large": 2} {
		if entry, err := db.Latest(t.Context(), key); err != nil || entry.Version != latest {
			t.Errorf("%s: the latest is %d, %v, want %d", key, entry.Version, err, latest)
		}
	}
	if _, err := db.Version(t.Context(), "nan", 2); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("a skipped version: %v", err)
	}
}

// TestExistingKeys checks that a key that was imported before may have later versions,
// and that a key with different versions stays as it is.
func TestExistingKeys(t *testing.T) {
	f := newFixture(t, "TEXT")
	f.add("same", 1, `1`, 10.0)
	f.add("other", 1, `1`, 10.0)
	f.close()
	db := databasetest.Open(t, databasetest.FileURL(t))
	run(t, f.path, db, nil)
	f.open()
	f.exec(`UPDATE "values" SET value = '2' WHERE key = 'other'`)
	f.add("new", 1, `1`, 5.0)
	f.close()
	err := db.Update(t.Context(), func(tx *database.Tx) error { // a version after the import
		err := tx.Load("same")
		if err == nil {
			tx.Append(kv.Entry{Key: "same", Value: []byte("2"), Operation: kv.OpPut})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sum, log := run(t, f.path, db, nil)
	if diff := cmp.Diff(importer.Summary{Keys: 1, Versions: 1, AlreadyKeys: 1, SkippedKeys: 1}, sum); diff != "" {
		t.Error(diff)
	}
	if want := "key \"other\" is skipped: it already exists with other versions\n"; log != want {
		t.Errorf("the log is %q, want %q", log, want)
	}
	if entry := version(t, db, "new", 1); entry.Revision != 4 {
		t.Errorf("new has revision %d, want 4", entry.Revision)
	}
}

// TestSourceIsOnlyRead imports in rollback mode and in WAL mode, with and without a log.
// Versions in the log are imported, and no file is changed, created or removed.
func TestSourceIsOnlyRead(t *testing.T) {
	for _, mode := range []string{"delete", "wal closed", "wal open"} {
		t.Run(mode, func(t *testing.T) {
			f := newFixture(t, "TEXT")
			if mode != "delete" {
				f.exec("PRAGMA journal_mode = WAL")
			}
			f.add("k", 1, `1`, 10.0)
			if mode != "wal open" {
				f.close()
			}
			before := snapshot(t, filepath.Dir(f.path))
			db := databasetest.Open(t, databasetest.FileURL(t))
			if sum, _ := run(t, f.path, db, nil); sum.Versions != 1 {
				t.Errorf("imported %+v", sum)
			}
			if diff := cmp.Diff(before, snapshot(t, filepath.Dir(f.path))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// snapshot returns the files of a directory, except for the index of a log, to which
// every reader writes.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if data, err := os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		} else if !strings.HasSuffix(entry.Name(), "-shm") {
			files[entry.Name()] = string(data)
		}
	}
	return files
}

// developmentFile returns a database of ours from before schema version 1.
func developmentFile(t *testing.T) (path string) {
	t.Helper()
	url := databasetest.FileURL(t)
	if err := databasetest.Open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	path = strings.TrimPrefix(url, "sqlite:")
	raw, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec("PRAGMA user_version = 0; CREATE TABLE migrations (id text); INSERT INTO migrations VALUES ('0005_gaps')"); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadSources(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database ", 20)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.db")
	raw, err := sql.Open("sqlite3", other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec("CREATE TABLE keys (name TEXT)"); err != nil {
		t.Fatal(err)
	}
	raw.Close()
	early := developmentFile(t)
	db := databasetest.Open(t, databasetest.FileURL(t))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		text:                       "not a database of the predecessor",
		other:                      "not a database of the predecessor",
		early:                      "import " + early + ": " + sqlite.ErrDevelopment.Error() + " (the last step of its schema: 0005_gaps)",
	} {
		_, err := importer.Run(context.Background(), importer.Config{Source: path, Database: db, Now: importTime, Logf: t.Logf})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", path, err, want)
		}
	}
}

// TestManyVersions imports more than fits in one chunk, with progress.
func TestManyVersions(t *testing.T) {
	const keys, versions = 500, 25
	f := newFixture(t, "TEXT")
	f.exec("BEGIN")
	for n := 1; n <= versions; n++ {
		for k := range keys {
			f.exec(`INSERT INTO "values" (key, value, version, timestamp) VALUES (?, ?, ?, ?)`, fmt.Sprint("k", k), fmt.Sprint(k*n), n, float64(n))
		}
	}
	f.exec("COMMIT")
	f.close()
	url := databasetest.FileURL(t)
	db := databasetest.Open(t, url)
	sum, log := run(t, f.path, db, nil)
	if sum.Versions != keys*versions || log != "10000 of 12500 versions\n" {
		t.Errorf("%+v, log %q", sum, log)
	}
	for k := range keys {
		if entry := version(t, db, fmt.Sprint("k", k), 7); string(entry.Value) != fmt.Sprint(k*7) || entry.Revision != int64(6*keys+k+1) {
			t.Errorf("k%d version 7 is %s with revision %d", k, entry.Value, entry.Revision)
		}
	}
	if _, err := sqlite.Check(t.Context(), url); err != nil {
		t.Error(err)
	}
}
