package api_test

import (
	"os"
	"testing"

	"kvstore/backend/database/databasetest"
)

func TestMain(m *testing.M) { os.Exit(databasetest.Tests{M: m}.Run()) }
