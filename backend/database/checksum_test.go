package database_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// rawExec runs a statement on the file of a database, beside or without its process.
func rawExec(t *testing.T, url, statement string) {
	t.Helper()
	raw, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeFrom0002 upgrades a file with every kind of row, at once and after an
// interruption, and compares every version.
func TestUpgradeFrom0002(t *testing.T) {
	const keys, versions = 500, 12
	for _, interrupted := range []bool{false, true} {
		t.Run(fmt.Sprintf("interrupted %t", interrupted), func(t *testing.T) {
			url := databasetest.URL(t)
			path := strings.TrimPrefix(url, "sqlite:")
			var want []kv.Entry
			database.MakeBefore(t, path, 2, func(db *gorm.DB) error {
				return db.Transaction(func(tx *gorm.DB) error { return fill0002(tx, keys, versions, &want) })
			})
			if interrupted {
				database.BeginChecksums(t, path)
				if _, err := database.Check(t.Context(), url); err != nil {
					t.Errorf("the check of a half upgraded file: %v", err)
				}
			}
			db := databasetest.Open(t, url)
			for _, entry := range want {
				if got, err := db.Version(t.Context(), entry.Key, entry.Version); err != nil || !reflect.DeepEqual(entry, got) {
					t.Fatalf("%s version %d: %+v, %v", entry.Key, entry.Version, got, err)
				}
			}
			if drift := db.SchemaDrift(t); len(drift) > 0 {
				t.Errorf("an upgraded file and the models differ:\n%s", strings.Join(drift, "\n"))
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := database.Check(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
}

// fill0002 writes rows as the second schema had them: with gaps of an import, removed
// oldest versions, tombstones, destroyed versions, large and empty values.
func fill0002(tx *gorm.DB, keys, versions int64, want *[]kv.Entry) error {
	revision, stored := int64(0), int64(0)
	for key := int64(1); key <= keys; key++ {
		name := fmt.Sprintf("key/%03d", key)
		readable, deleted := int64(0), key%7 == 0
		if err := tx.Exec("INSERT INTO keys (id, key, version, revision, timestamp, total_versions, deleted) VALUES (?, ?, ?, ?, ?, 0, ?)",
			key, name, versions, revision+versions, revision+versions, deleted).Error; err != nil {
			return err
		}
		for version := int64(1); version <= versions; version++ {
			revision++
			if key%5 == 0 && version <= 3 || key%11 == 0 && version == 6 {
				continue
			}
			e := kv.Entry{
				Key: name, Version: version, Revision: revision, Time: kv.Timestamp(revision), Operation: kv.OpPut, Author: "alice",
				Value: bytes.Repeat([]byte("x"), int(key%3*version*50)),
			}
			switch {
			case version == versions && deleted:
				e.Operation, e.Value = kv.OpDelete, []byte{}
			case version == 8 && key%4 == 0:
				e.Destroyed, e.Value = true, []byte{}
			}
			if !e.Destroyed {
				readable++
			}
			if err := tx.Exec("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", e.Revision, key, e.Version, int64(e.Time),
				string(e.Operation), e.ContentType, e.Author, 0, e.Destroyed, e.Value).Error; err != nil {
				return err
			}
			*want = append(*want, e)
		}
		stored += readable
		if err := tx.Exec("UPDATE keys SET total_versions = ? WHERE id = ?", readable, key).Error; err != nil {
			return err
		}
	}
	if err := tx.Exec("INSERT INTO erased VALUES (zeroblob(32), 5)").Error; err != nil {
		return err
	}
	return tx.Exec("UPDATE store SET revision = ?, total_keys = ?, total_versions = ?", revision, keys-keys/7, stored).Error
}

// TestCheckNamesDamage changes one member of one row, and holds that the check names
// what it is of, and that a start says it and goes on.
func TestCheckNamesDamage(t *testing.T) {
	for statement, want := range map[string]string{
		"UPDATE versions SET value = x'32' WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET timestamp = 8 WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET operation = 'qut' WHERE revision = 2":          "Key 'k' version 2",
		"UPDATE versions SET content_type = 'x' WHERE revision = 2":         "Key 'k' version 2",
		"UPDATE versions SET author = 'x' WHERE revision = 2":               "Key 'k' version 2",
		"UPDATE versions SET expires_at = 1 WHERE revision = 2":             "Key 'k' version 2",
		"UPDATE versions SET destroyed = 1 WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET checksums = checksums + 1 WHERE revision = 2":  "Key 'k' version 2",
		"UPDATE versions SET checksums = -checksums WHERE revision = 2":     "Key 'k' version 2",
		"UPDATE versions SET version = 9 WHERE revision = 2":                "Key 'k' version 9",
		"UPDATE versions SET revision = 9 WHERE revision = 2":               "Key 'k' version 2",
		"UPDATE keys SET total_versions = total_versions + 1 WHERE key='k'": "Key 'k'",
		"UPDATE keys SET timestamp = 1 WHERE key='k'":                       "Key 'k'",
		"UPDATE keys SET complete_from = 2 WHERE key='k'":                   "Key 'k'",
		"UPDATE keys SET key = 'j' WHERE key='k'":                           "Key 'j'",
		"UPDATE store SET compacted = 1":                                    "counters of the store",
		"DELETE FROM versions WHERE revision = 2":                           "Key 'k'",
		"UPDATE keys SET deleted = 1 WHERE key='k'":                         "Key 'k'",
	} {
		t.Run(statement, func(t *testing.T) {
			url := databasetest.URL(t)
			db := databasetest.Open(t, url)
			for _, value := range []string{"1", "1", "1"} {
				put(t, db, "k", value)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			rawExec(t, url, statement)
			if _, err := database.Check(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check = %v, want %q", err, want)
			}
			if _, err := database.Backup(t.Context(), url, database.Target{Name: strings.TrimPrefix(url, "sqlite:") + ".backup"}); err == nil {
				t.Error("a backup was made of it")
			}
			var log bytes.Buffer
			db, err := database.Open(t.Context(), database.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if strings.Contains(statement, "store") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Open = %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if !strings.Contains(log.String(), want) || db.Damage() == 0 {
				t.Errorf("the start says %s", &log)
			}
		})
	}
}
