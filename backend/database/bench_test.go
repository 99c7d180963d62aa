package database_test

import (
	"fmt"
	"testing"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// BenchmarkRead reads single versions of many keys without the cache.
func BenchmarkRead(b *testing.B) {
	const keys, versions = 2000, 10
	db := databasetest.Open(b, databasetest.URL(b))
	entries := make([]kv.Entry, keys*versions)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprint("key/", i%keys), Value: make([]byte, 256)}
	}
	databasetest.Write(b, db, entries...)
	for name, read := range map[string]func(key string, n int) error{
		"Latest":  func(key string, _ int) error { _, err := db.Latest(b.Context(), key); return err },
		"Version": func(key string, n int) error { _, err := db.Version(b.Context(), key, int64(1+n%versions)); return err },
		"At": func(key string, n int) error {
			_, err := db.At(b.Context(), key, kv.Timestamp(keys+n%keys))
			return err
		},
		"Keys": func(key string, _ int) error {
			_, err := db.Keys(b.Context(), kv.KeysRequest{After: key, Limit: 10}, 1)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if err := read(fmt.Sprint("key/", n*7919%keys), n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
