package postgres

import (
	"context"
	"testing"

	"kvstore/backend/database"
)

// RefuseServer is the check of what a server says of itself.
var RefuseServer = refuseServer

// Settings returns settings that are in force in a transaction of the writer.
func Settings(t *testing.T, db *database.DB, names map[string]string) map[string]string {
	t.Helper()
	tx := db.Engine.(*server).Writer.WithContext(t.Context()).Begin()
	defer tx.Rollback()
	found := map[string]string{}
	for name := range names {
		var value string
		if err := tx.Raw("SELECT current_setting(?)", name).Row().Scan(&value); err != nil {
			t.Fatal(err)
		}
		found[name] = value
	}
	return found
}

// Beat says that the backend runs.
func Beat(ctx context.Context, db *database.DB) error {
	s := db.Engine.(*server)
	return s.member.beat(ctx, s.Pinger)
}
