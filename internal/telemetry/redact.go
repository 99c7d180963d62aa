package telemetry

import (
	"regexp"
	"strings"
)

// tokenPattern finds access tokens, as gateway/access makes them.
var tokenPattern = regexp.MustCompile(`kv(?:_|%5[Ff])[0-9A-Za-z_%-]{20,}`)

// WithoutTokens returns a URL as it may be logged. Access tokens are accepted nowhere
// in it, but somebody may have tried.
func WithoutTokens(url string) string {
	if !strings.Contains(url, "kv") {
		return url
	}
	return tokenPattern.ReplaceAllString(url, "kv_...")
}
