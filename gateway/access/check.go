package access

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"

	"kvstore/gateway/h1"
	"kvstore/internal/problem"
)

// Check decides about a request for a route with these headers. denial is nil if the request
// may go on.
func (g *Guard) Check(m Match, fields []h1.Field) (grant Grant, denial *Denial) {
	if m.scope == open {
		return Grant{}, nil
	}
	table := g.table.Load()
	token, denial := g.bearer(table, fields)
	if denial != nil {
		return Grant{}, denial
	}
	grant = Grant{Head: token.author, table: table, token: token}
	switch m.scope {
	case filtered:
		grant.Head = token.scoped
		if !token.hasSome(m.rights) {
			return Grant{}, lacks(token, m.rights, "any key")
		}
	case ofAll:
		if missing := token.missing(m.rights, nil); missing != 0 {
			return Grant{}, lacks(token, missing, "all keys")
		}
	case ofKey:
		if missing := token.missing(m.rights, m.key); missing != 0 {
			return Grant{}, lacks(token, missing, fmt.Sprintf("the key '%s'", m.key))
		}
	case nothing, open:
		return Grant{}, &Denial{problem.New(http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them"), ""}
	}
	return grant, nil
}

// bearer returns the token that the request brings.
func (g *Guard) bearer(t *table, fields []h1.Field) (*Token, *Denial) {
	var value []byte
	found := false
	for i := range fields {
		if !h1.EqualFold(fields[i].Name, "authorization") {
			continue
		}
		if found {
			return nil, &Denial{
				problem.New(http.StatusBadRequest, "bad_request", "Authorization: is there more than once"), `, error="invalid_request"`,
			}
		}
		value, found = fields[i].Value, true
	}
	secret, ok := cutBearer(value)
	if !ok {
		return nil, errNoToken
	}
	if len(secret) > maxSecretLength {
		return nil, Revoked
	}
	token := t.tokens[sha256.Sum256(secret)]
	switch {
	case token == nil:
		return nil, Revoked
	case token.ExpiredAt(g.now()):
		return nil, &Denial{problem.New(http.StatusUnauthorized, "invalid_token",
			fmt.Sprintf("The access token '%s' has expired at %s", token.Name, token.ExpiresText())), isInvalid}
	}
	return token, nil
}

// cutBearer returns the token of an Authorization header. The case of the scheme does not
// matter (RFC 9110).
func cutBearer(value []byte) ([]byte, bool) {
	const scheme = "bearer "
	if len(value) < len(scheme) || !h1.EqualFold(value[:len(scheme)], scheme) {
		return nil, false
	}
	secret := bytes.TrimLeft(value[len(scheme):], " ")
	return secret, len(secret) > 0
}

// A Denial says why a request may not go on.
type Denial struct {
	Problem *problem.Problem
	// error follows the realm in the challenge (RFC 6750).
	error string
}

// Challenge is the WWW-Authenticate header of the answer, "" for none.
func (d *Denial) Challenge() string {
	if d.error == "" && d.Problem.Status != http.StatusUnauthorized {
		return ""
	}
	return `Bearer realm="kv"` + d.error
}

const isInvalid = `, error="invalid_token"`

// These are shared and never changed.
var (
	errNoToken = &Denial{problem.New(http.StatusUnauthorized, "unauthorized",
		"An access token is needed: send the header Authorization: Bearer TOKEN"), ""}
	// Revoked is the denial of a token that is not, or no longer, in the file.
	Revoked = &Denial{problem.New(http.StatusUnauthorized, "invalid_token",
		"The access token is unknown: it is misspelled or was revoked"), isInvalid}
)

// missing returns the first of rights that the token does not give for key, or 0.
func (t *Token) missing(rights Rights, key []byte) Rights {
	for _, known := range rightNames {
		if rights&known.right != 0 && !t.allows(known.right, key) {
			return known.right
		}
	}
	return 0
}

func lacks(t *Token, rights Rights, what string) *Denial {
	names := rights.names()
	detail := fmt.Sprintf("The access token '%s' does not have the right %s for %s", t.Name, names[0], what)
	if len(names) > 1 {
		detail = fmt.Sprintf("The access token '%s' has neither the right %s nor %s for %s", t.Name, names[0], names[1], what)
	}
	return &Denial{problem.New(http.StatusForbidden, "forbidden", detail).With("right", rights.String()), `, error="insufficient_scope"`}
}
