package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"kvstore/gateway/access"
	"kvstore/internal/rfc3339"
	"kvstore/internal/settings"
)

const tokenUsage = `gateway token makes, lists and revokes access tokens in the file of a gateway, which needs no restart.

Usage:
  gateway token new --name NAME --rule RIGHTS:PREFIX [--rule ...] --expires DURATION
                               print a new token, once, and add its hash to the file
  gateway token list           print the names, expiries and rules of the file
  gateway token revoke NAME    take a token out of the file

Rights are read, write and admin, separated by commas; none includes another. The rule read,write:app/ is for all keys
that begin with app/, and read: is for all keys. A prefix need not end at a slash: read:app is for apple too. --expires
takes a duration from now (720h), a time in RFC 3339, or never.

To find out whose token turned up somewhere, look for its SHA-256 in the file: printf %s "$TOKEN" | sha256sum`

// runToken runs "gateway token" with the arguments after it.
func runToken(args []string, getenv func(string) string, stdout io.Writer) error {
	set := settings.New("gateway token", tokenUsage, stdout)
	var path, name, expires string
	var rules []string
	set.TokensFile(&path)
	set.Text(&name, "name", "name", "of the new token; it becomes the author of what is written with it")
	set.Texts(&rules, "rule", "rights:prefix", "that the new token has; several add up")
	set.Text(&expires, "expires", "duration", "of the new token: 720h, 2027-01-31T00:00:00Z, or never")
	rest, err := set.Parse(args, getenv)
	switch {
	case errors.Is(err, settings.ErrHelp):
		return nil
	case err != nil:
		return err
	case path == "":
		return mistakes(errors.New("--tokens-file or KV_TOKENS_FILE must name the file of tokens"))
	}
	switch command := strings.Join(rest, " "); {
	case command == "new":
		return newToken(path, name, rules, expires, stdout)
	case command == "list":
		return listTokens(path, stdout)
	case len(rest) == 2 && rest[0] == "revoke":
		if err := access.Remove(path, rest[1]); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "token %s is revoked: a running gateway refuses it within a second\n", rest[1])
		return err
	default:
		return mistakes(fmt.Errorf("%q is not new, list or revoke NAME", command))
	}
}

func mistakes(errs ...error) error { return &settings.Error{Mistakes: errs} }

func newToken(path, name string, rules []string, expires string, stdout io.Writer) error {
	var errs []error
	token := &access.Token{Name: name}
	if err := access.CheckName(name); err != nil {
		errs = append(errs, fmt.Errorf("--name: %w", err))
	}
	if len(rules) == 0 {
		errs = append(errs, errors.New("--rule: must be there, such as --rule read,write:app/"))
	}
	for _, text := range rules {
		rule, err := access.ParseRule(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--rule=%q: %w", text, err))
		}
		token.Rules = append(token.Rules, rule)
	}
	var err error
	if token.Expires, err = expiryOf(expires, time.Now()); err != nil {
		errs = append(errs, fmt.Errorf("--expires=%q: %w", expires, err))
	}
	if len(errs) > 0 {
		return mistakes(errs...)
	}
	secret, hash := access.NewSecret()
	token.Hash = hash
	if err := access.Add(path, token); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, secret)
	return err
}

// expiryOf returns when a token expires, or the zero time for never.
func expiryOf(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	if at, ok := rfc3339.Parse(text); ok && at.After(now) {
		return at, nil
	}
	return time.Time{}, errors.New("must be a duration such as 720h, a time to come such as 2027-01-31T00:00:00Z, or never")
}

func listTokens(path string, stdout io.Writer) error {
	tokens, err := access.Load(path)
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "NAME\tEXPIRES\tRULES")
	for _, t := range tokens {
		expires := t.ExpiresText()
		if t.ExpiredAt(time.Now()) {
			expires += " (expired)"
		}
		rules := make([]string, len(t.Rules))
		for i, r := range t.Rules {
			rules[i] = r.String()
		}
		fmt.Fprintf(out, "%s\t%s\t%s\n", t.Name, expires, strings.Join(rules, " "))
	}
	return out.Flush()
}
