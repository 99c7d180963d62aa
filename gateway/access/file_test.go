package access_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/gateway/access"
)

func TestMistakes(t *testing.T) {
	const rules = "  rules: [{allow: [read], prefix: ''}]\n"
	hash := strings.Repeat("0a", 32)
	head := "tokens:\n- name: ci\n  sha256: " + hash + "\n"
	prefixes := strings.Repeat("{allow: [read], prefix: "+strings.Repeat("p", 500)+"},", 17)
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":            {"", []string{"line 1: must be a mapping with the member tokens, a list"}},
		"a comment":        {"# x\n", []string{"line 1: must be a mapping with the member tokens, a list"}},
		"a text":           {"tokens", []string{"line 1: must be a mapping with the member tokens, a list"}},
		"no list":          {"tokens: 5", []string{"line 1: tokens: must be a list; [] for none"}},
		"null":             {"tokens:", []string{"line 1: tokens: must be a list; [] for none"}},
		"another member":   {"tokens: []\nsecret: s\n", []string{"line 2: a member is unknown; the known ones are tokens"}},
		"no YAML":          {"tokens:\n- a: b: `kv_secret`\n", []string{"is not valid YAML: line 2: mapping values are not allowed in this context"}},
		"two documents":    {"tokens: []\n---\ntokens: []\n", []string{"must be one document of YAML and no more"}},
		"an alias":         {"tokens: &a\n- *a\n", []string{"line 2: must be a mapping with the members name, sha256, expires and rules"}},
		"no mapping":       {"tokens: [kv_secret]", []string{"line 1: must be a mapping with the members name, sha256, expires and rules"}},
		"a secret as hash": {"tokens:\n- name: ci\n  sha256: kv_secret\n  expires: never\n" + rules, []string{`line 3: token "ci": sha256: must be 64 hexadecimal digits, the SHA-256 of the token ("gateway token new" makes both)`}},
		"a secret as name": {"tokens:\n- name: kv_secret x\n  sha256: " + hash + "\n  expires: never\n" + rules, []string{"line 2: name: must be 1 to 64 of the characters a-z A-Z 0-9 . _ @ -, and begin with a letter or digit"}},
		"no time":          {head + "  expires: 2027-01-01\n" + rules, []string{`line 4: token "ci": expires: must be a time such as 2027-01-31T00:00:00Z (RFC 3339), or never`}},
		"the zero time":    {head + "  expires: 0001-01-01T00:00:00Z\n" + rules, []string{`line 4: token "ci": expires: must be a time such as 2027-01-31T00:00:00Z (RFC 3339), or never`}},
		"members":          {head + "  expires: never\n  expires: never\n  role: x\n", []string{`line 5: token "ci": expires: is given twice`, `line 6: token "ci": a member is unknown; the known ones are name, sha256, expires, rules`, `line 2: token "ci": rules: must be there`}},
		"no rules":         {head + "  expires: never\n  rules: []\n", []string{`line 5: token "ci": rules: must be a list of 1 to 64 rules`}},
		"rules": {
			head + "  expires: never\n  rules:\n  - read\n  - {allow: read, prefix: a}\n  - {allow: [raed], prefix: a}\n  - {allow: [read], prefix: }\n  - {allow: [read], prefix: \"\\n\"}\n",
			[]string{
				`line 6: token "ci": rules[0]: must be a mapping with the members allow and prefix`,
				`line 7: token "ci": rules[1].allow: must be a list of read, write, admin`,
				`line 8: token "ci": rules[2].allow: must be a list of read, write, admin`,
				`line 9: token "ci": rules[3].prefix: must be there`,
				`line 10: token "ci": rules[4].prefix: must be at most 512 bytes of UTF-8 without control characters, and "" for all keys`,
			},
		},
		"long":  {head + "  expires: never\n  rules: [" + prefixes + "]\n", []string{`line 5: token "ci": rules: the prefixes come to 8578 bytes on their way to the backend, the limit is 8192`}},
		"twice": {"tokens:\n" + entry("a", "never", 1) + entry("a", "never", 2) + entry("b", "never", 1), []string{`line 6: token "a": name: is that of the token in line 2 too`, `line 11: token "b": sha256: is that of the token in line 2 too`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := access.Parse([]byte(c.text))
			var mistakes *access.FileError
			if !errors.As(err, &mistakes) {
				t.Fatalf("no mistakes: %v", err)
			}
			if diff := cmp.Diff(c.want, mistakes.Mistakes); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(err.Error(), "kv_") {
				t.Errorf("cites the file: %v", err)
			}
		})
	}
}

// A leap second is accepted, and is the second after it.
func TestExpiresInALeapSecond(t *testing.T) {
	v := newVault(t)
	write(t, v.path, "tokens:\n"+entry("ci", "2016-12-31T23:59:60Z", 1))
	tokens, err := access.Load(v.path)
	if err != nil || len(tokens) != 1 || tokens[0].ExpiresText() != "2017-01-01T00:00:00Z" {
		t.Errorf("%v, %v", tokens, err)
	}
}

func TestEditsKeepTheFile(t *testing.T) {
	v := newVault(t)
	write(t, v.path, "# ours\ntokens:\n  # of the build\n"+entry("ci", "2027-01-31T01:00:00+01:00", 1)+"  # the last one\n")
	if err := os.Chmod(v.path, 0o640); err != nil {
		t.Fatal(err)
	}
	v.add(t, "new", time.Time{}, "read,write:true", "admin:")
	tokens, err := access.Load(v.path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, token := range tokens {
		got = append(got, fmt.Sprint(token.Name, " ", token.ExpiresText(), " ", token.Rules))
	}
	if diff := cmp.Diff([]string{"ci 2027-01-31T00:00:00Z [read:]", "new never [read,write:true admin:]"}, got); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"# ours", "# of the build", "# the last one", "2027-01-31T01:00:00+01:00"} {
		if !strings.Contains(string(text), kept) {
			t.Errorf("%q is gone:\n%s", kept, text)
		}
	}
	if strings.Contains(string(text), v.secrets["new"]) {
		t.Error("the file has the token")
	}
	if info, err := os.Stat(v.path); err != nil || info.Mode().Perm() != 0o640 {
		t.Error(info.Mode(), err)
	}
	for what, err := range map[string]error{
		`there is no token "none"`:         access.Remove(v.path, "none"),
		`there is a token "new" already`:   access.Add(v.path, &access.Token{Name: "new"}),
		`rules: must be a list of 1 to 64`: access.Add(v.path, &access.Token{Name: "empty"}),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(v.path), ".tokens*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
}

func TestNewFileIsPrivate(t *testing.T) {
	v := newVault(t)
	v.add(t, "a", time.Time{}, "read:")
	if info, err := os.Stat(v.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// Concurrent commands lose nothing.
func TestEditsAtOnce(t *testing.T) {
	v := newVault(t)
	var editors sync.WaitGroup
	for i := range 20 {
		editors.Go(func() {
			_, hash := access.NewSecret()
			rules := []access.Rule{{Allow: access.Read}}
			if err := access.Add(v.path, &access.Token{Name: fmt.Sprint("t", i), Hash: hash, Rules: rules}); err != nil {
				t.Error(err)
			}
		})
	}
	editors.Wait()
	if tokens, err := access.Load(v.path); err != nil || len(tokens) != 20 {
		t.Error(len(tokens), err)
	}
}

// FuzzFile checks that mistakes quote nothing that may be secret, and that what is accepted can
// be used and edited with the same result.
func FuzzFile(f *testing.F) {
	const secret = "kv_$3cret" // no name has the $
	for _, seed := range []string{
		"tokens: []\n", "tokens: []", "", "tokens:\n" + entry("a", "never", 1) + entry("b", "2027-01-31T00:00:00Z", 2), "tokens: &a [*a]\n", "{tokens: [{name: a}]}\n",
		"%YAML 1.2\n---\ntokens: !!seq []\n...\n", "tokens:\n- <<: {name: a}\n", "? tokens\n: []\n", "\xef\xbb\xbftokens: []\n", "tokens: [\"\\u0000\"]\n",
		"tokens: [{name: a, sha256: '" + strings.Repeat("0", 64) + "', expires: never, rules: [{allow: [read, admin], prefix: \"\\x41\\t\"}]}] # c\n",
		"tokens:\n- " + secret + "\n- *" + secret + "\n", "tokens:\n- name: a\n  sha256: " + secret + "\n  expires: \"" + secret + "\n", secret + ": &" + secret + " [\n", "tokens: !" + secret + " []\n", "%" + secret + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tokens, err := access.Parse(text)
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), secret) {
				t.Errorf("a mistake without words, or one that cites the file: %v", err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "tokens.yml")
		write(t, path, string(text))
		secret, hash := access.NewSecret()
		name := "added-by-the-test"
		if err := access.Add(path, &access.Token{Name: name, Hash: hash, Rules: []access.Rule{{Allow: access.Read}}}); err != nil {
			t.Fatalf("add to %q: %v", text, err)
		}
		decides(t, path, secret)
		if err := access.Remove(path, name); err != nil {
			t.Fatal(err)
		}
		again, err := access.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(describe(tokens), describe(again)); diff != "" {
			t.Error(diff)
		}
	})
}

// decides checks that the token of secret may read and nothing else, and that nobody else may do
// anything.
func decides(t *testing.T, path, secret string) {
	t.Helper()
	g, err := access.Open(access.Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	other, _ := access.NewSecret()
	for _, c := range []struct {
		target, secret string
		allowed        bool
	}{{"/get/k", secret, true}, {"/put/k", secret, false}, {"/destroy/k", secret, false}, {"/get/k", other, false}} {
		if _, denial := g.Check(access.Find([]byte(c.target)), bearer(t, c.secret)); (denial == nil) != c.allowed {
			t.Errorf("%s: %+v, want allowed = %t", c.target, denial, c.allowed)
		}
	}
}

func describe(tokens []*access.Token) (lines []string) {
	for _, t := range tokens {
		lines = append(lines, fmt.Sprintf("%s %x %s %q", t.Name, t.Hash, t.ExpiresText(), t.Rules))
	}
	return lines
}
