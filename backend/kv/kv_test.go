package kv_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"kvstore/backend/kv"
)

func TestCheckKey(t *testing.T) {
	for _, key := range []string{
		"k", "a/b", "a//b", "a/../b", "../x", "100%", "a?b", "a;b", "a b", "日本", "\u0080", "\u2028", `"`, `\`,
		strings.Repeat("k", 512), strings.Repeat("日", 170) + "ab",
	} {
		if err := kv.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v, want nil", key, err)
		}
	}
	for _, key := range []string{
		"", "\x00", "a\nb", "a\x1f", "\x7f", "a\xffb", "\xc3", "\xed\xa0\x80", strings.Repeat("k", 513), strings.Repeat("日", 171),
	} {
		err := kv.CheckKey(key)
		if !errors.Is(err, kv.ErrInvalidKey) {
			t.Errorf("CheckKey(%q) = %v, want ErrInvalidKey", key, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "key: ") {
			t.Errorf("CheckKey(%q) = %q, want the field to be named", key, err)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"", "k", "a\x00", "a\xff", "日本", strings.Repeat("x", 513)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		allowed := key != "" && len(key) <= 512 && utf8.ValidString(key) &&
			!strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f })
		if err := kv.CheckKey(key); (err == nil) != allowed {
			t.Errorf("CheckKey(%q) = %v, want allowed = %v", key, err, allowed)
		}
	})
}

func TestTimestampJSON(t *testing.T) {
	for stamp, want := range map[kv.Timestamp]string{
		0:                "0.000000",
		1:                "0.000001",
		1764000000123456: "1764000000.123456",
		1764000000000000: "1764000000.000000",
		-1:               "-0.000001",
		-1500000:         "-1.500000",
		-62167219200e6:   "-62167219200.000000",
	} {
		got, err := json.Marshal(stamp)
		if err != nil || string(got) != want {
			t.Errorf("Marshal(%d) = %s, %v, want %s", stamp, got, err, want)
		}
	}
}
