package kv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"kvstore/backend/kv"
)

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want kv.Class
	}{
		{nil, kv.ClassOther},
		{context.Canceled, kv.ClassOther},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), kv.ClassOther},
		{kv.CheckKey(""), kv.ClassRefused},
		{fmt.Errorf("operations[0]: %w", kv.KeyNotFound("k")), kv.ClassRefused},
		{kv.Condition{Exists: true}.Check("k", 0), kv.ClassRefused},
		{kv.TooManyRequests(1), kv.ClassUnavailable},
		{fmt.Errorf("commit: %w: %w", kv.ErrStorageFull, errors.New("disk I/O error")), kv.ClassDisk},
		{fmt.Errorf("%w: %w", kv.ErrOutcomeUnknown, kv.ErrCorrupt), kv.ClassDisk},
		{kv.Damaged("k", 2), kv.ClassKeyDamage},
		{kv.ErrCorrupt, kv.ClassDamage},
	} {
		if got := kv.ClassOf(c.err); got != c.want {
			t.Errorf("ClassOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
	if !errors.Is(kv.Damaged("k", 0), kv.ErrCorrupt) {
		t.Error("a damaged key is not ErrCorrupt")
	}
}

func TestErrorNamesTheField(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{kv.CheckKey(""), "key: must not be empty"},
		{kv.CheckPrefix("a\n"), "prefix: has the control character U+000A at byte 1"},
		{kv.KeyNotFound("k"), "Key 'k' not found"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
}
