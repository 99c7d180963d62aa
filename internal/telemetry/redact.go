package telemetry

import (
	"net/url"
	"regexp"
	"strings"
)

// tokenPattern finds access tokens, as gateway/access makes them.
var tokenPattern = regexp.MustCompile(`kv(?:_|%5[Ff])[0-9A-Za-z_%-]{20,}`)

// tokenParameters are what people call a parameter that has a token of any kind.
var tokenParameters = map[string]bool{"access_token": true, "auth_token": true, "token": true, "bearer": true, "api_key": true}

// WithoutTokens returns the path and query of a URL as they may be logged. Access
// tokens are accepted nowhere in them, but somebody may have tried.
func WithoutTokens(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found {
		return withoutOurTokens(target)
	}
	var out strings.Builder
	out.WriteString(withoutOurTokens(path))
	separator := "?"
	for parameter := range strings.SplitSeq(query, "&") {
		out.WriteString(separator)
		separator = "&"
		name, _, valued := strings.Cut(parameter, "=")
		decoded, err := url.QueryUnescape(name)
		if valued && err == nil && tokenParameters[strings.ToLower(decoded)] {
			parameter = name + "=..."
		}
		out.WriteString(withoutOurTokens(parameter))
	}
	return out.String()
}

func withoutOurTokens(text string) string {
	if !strings.Contains(text, "kv") {
		return text
	}
	return tokenPattern.ReplaceAllString(text, "kv_...")
}
