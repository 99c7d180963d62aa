package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kvstore/internal/rfc3339"
)

const (
	// secretPrefix begins every token, so that scanners for leaked secrets recognize it, and
	// telemetry.WithoutTokens.
	secretPrefix = "kv_"
	secretBytes  = 32
	// maxSecretLength is longer than any token. What is longer still is not hashed.
	maxSecretLength = 256
	maxNameLength   = 64
	maxRules        = 64
	maxPrefixBytes  = 512 // as a key
	// maxHeadBytes bounds the header lines that a request gains on its way to a backend.
	maxHeadBytes = 8 << 10
)

// A Token is an entry of the file. It does not have the token itself, only its hash.
type Token struct {
	Name    string
	Hash    [sha256.Size]byte // of the token as the bearer sends it
	Expires time.Time         // zero: never
	Rules   []Rule

	author []byte // the header line that names the bearer
	scoped []byte // the same, and those of the keys that may be read and written
}

// NewSecret returns a new random token, and its hash for the file.
func NewSecret() (secret string, hash [sha256.Size]byte) {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	secret = secretPrefix + base64.RawURLEncoding.EncodeToString(b)
	return secret, sha256.Sum256([]byte(secret))
}

// The mistakes of an entry.
var (
	errName        = fmt.Errorf("must be 1 to %d of the characters a-z A-Z 0-9 . _ @ -, and begin with a letter or digit", maxNameLength)
	errNameIsToken = errors.New("must not begin with " + secretPrefix + ", as tokens do: names are told to everybody")
	errHash        = errors.New(`must be 64 hexadecimal digits, the SHA-256 of the token ("gateway token new" makes both)`)
	errExpires     = errors.New("must be a time such as 2027-01-31T00:00:00Z (RFC 3339), or never")
	errRights      = errors.New("must be a list of read, write, admin")
	errRuleForm    = errors.New("must be rights:prefix, such as read,write:app/ (rights are read, write, admin; no prefix means all keys)")
	errRules       = fmt.Errorf("must be a list of 1 to %d rules", maxRules)
	errPrefix      = fmt.Errorf(`must be at most %d bytes of UTF-8 without control characters, and "" for all keys`, maxPrefixBytes)
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]*$`)

// CheckName returns an error unless name is a valid name of a token.
func CheckName(name string) error {
	if len(name) > maxNameLength || !namePattern.MatchString(name) {
		return errName
	}
	if strings.HasPrefix(name, secretPrefix) {
		return errNameIsToken
	}
	return nil
}

func checkPrefix(prefix string) error {
	control := func(r rune) bool { return r < 0x20 || r == 0x7f }
	if len(prefix) > maxPrefixBytes || !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, control) {
		return errPrefix
	}
	return nil
}

func parseHash(text string) (hash [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(hash) {
		return hash, errHash
	}
	return [sha256.Size]byte(b), nil
}

const never = "never"

func parseExpires(text string) (time.Time, error) {
	if text == never {
		return time.Time{}, nil
	}
	at, ok := rfc3339.Parse(text)
	if !ok || at.IsZero() { // the zero time would be taken for never
		return time.Time{}, errExpires
	}
	return at, nil
}

// ExpiresText returns Expires as it is in the file.
func (t *Token) ExpiresText() string {
	if t.Expires.IsZero() {
		return never
	}
	return t.Expires.UTC().Format(time.RFC3339)
}

// ExpiredAt reports whether the token has expired.
func (t *Token) ExpiredAt(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// allows reports whether a rule gives the right for key.
func (t *Token) allows(right Rights, key []byte) bool {
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.Allow&right != 0 && len(key) >= len(r.Prefix) && string(key[:len(r.Prefix)]) == r.Prefix {
			return true
		}
	}
	return false
}

// hasSome reports whether a rule gives one of the rights for any keys.
func (t *Token) hasSome(rights Rights) bool {
	return slices.ContainsFunc(t.Rules, func(r Rule) bool { return r.Allow&rights != 0 })
}

// prepare makes the header lines that describe the bearer to a backend.
func (t *Token) prepare() error {
	t.author = []byte(AuthorHeader + ": " + t.Name + "\r\n")
	t.scoped = slices.Concat(t.author, t.scope(ReadPrefixesHeader, Read), t.scope(WritePrefixesHeader, Write))
	if len(t.scoped) > maxHeadBytes {
		return fmt.Errorf("the prefixes come to %d bytes on their way to the backend, the limit is %d", len(t.scoped), maxHeadBytes)
	}
	return nil
}

// The headers that describe a bearer. A backend trusts them, since only the gateway reaches it.
// The gateway drops those that clients send.
const (
	AuthorHeader        = "X-KV-Author"
	ReadPrefixesHeader  = "X-KV-Read-Prefixes"
	WritePrefixesHeader = "X-KV-Write-Prefixes"
)

// scope returns the header line with the prefixes for which the token has a right,
// percent-encoded and separated by commas. There is no line if it has the right for all keys,
// and an empty one if for none.
func (t *Token) scope(header string, right Rights) []byte {
	var prefixes []string
	for _, r := range t.Rules {
		switch {
		case r.Allow&right == 0:
		case r.Prefix == "":
			return nil
		default:
			prefixes = append(prefixes, url.PathEscape(r.Prefix))
		}
	}
	return []byte(header + ": " + strings.Join(prefixes, ",") + "\r\n")
}
