package proxy

import (
	"bytes"
	"net/netip"
	"strings"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

// A meaning says what a header means to this package.
type meaning uint8

const (
	requestID meaning = iota + 1
	via
	forwardedFor
	forwardedHost
	forwardedProto
	secret // the client's token
	bearer // describes the bearer of a token; only the gateway may say it
)

var meanings = h1.NewNames(map[string]meaning{
	"x-request-id": requestID, "via": via,
	"x-forwarded-for": forwardedFor, "x-forwarded-host": forwardedHost, "x-forwarded-proto": forwardedProto,
	"authorization":                             secret,
	strings.ToLower(access.AuthorHeader):        bearer,
	strings.ToLower(access.ReadPrefixesHeader):  bearer,
	strings.ToLower(access.WritePrefixesHeader): bearer,
})

// replaced are the headers that the gateway sets in answers, or drops from them.
var replaced = []string{
	"x-request-id",
	strings.ToLower(access.AuthorHeader), strings.ToLower(access.ReadPrefixesHeader), strings.ToLower(access.WritePrefixesHeader),
	"x-content-type-options", "x-frame-options", "referrer-policy", "permissions-policy", "strict-transport-security",
}

// The headers for browsers, which replace those of a backend, are the strictest ones. There is no
// Content-Security-Policy, since the backend has a better one for each kind of answer.
const (
	securityHeaders = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n" +
		"Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"
	// strictTransport is for clients that used TLS. Over plain HTTP it could be forged.
	strictTransport = "Strict-Transport-Security: max-age=31536000\r\n"
)

// readHeaders reads the headers of x, drops those that a backend must not get, and appends those
// that it gets from this hop: X-Request-Id, Via and X-Forwarded. Those of the bearer and of the
// trace come later.
func (h *handler) readHeaders(x *h1.Exchange) {
	var id, hops []byte
	var toldHost, toldProto bool
	to := x.ToBackend
	to = append(to, "X-Forwarded-For: "...)
	for i := range x.Fields {
		field := &x.Fields[i]
		switch meanings.Find(field.Name) {
		case requestID:
			if id == nil {
				id = field.Value
			}
			field.Dropped = true
		case via:
			h.loop = h.loop || bytes.Contains(field.Value, []byte(h.p.name))
		case forwardedFor:
			if hops = field.Value; len(hops) > 0 {
				to = append(append(to, hops...), ", "...)
			}
			field.Dropped = true
		case forwardedHost:
			toldHost, field.Dropped = true, false
		case forwardedProto:
			h.secure = h.secure || !toldProto && h1.EqualFold(field.Value, "https")
			toldProto, field.Dropped = true, false
		case secret, bearer:
			field.Dropped = true
		}
	}
	h.id = telemetry.RequestIDOr(id)
	h.client = clientOf(h.peer, hops)
	to = append(to, h.ip...)
	to = append(to, "\r\n"...)
	if !toldHost && len(x.Host) > 0 {
		to = h1.AppendField(to, []byte("X-Forwarded-Host"), x.Host)
	}
	if !toldProto {
		to = append(to, "X-Forwarded-Proto: http\r\n"...)
	}
	to = append(to, "Via: 1."...) // RFC 9110, section 7.6.3; in answers Via is optional
	to = append(to, '0'+byte(x.Minor), ' ')
	to = append(to, h.p.name...)
	to = append(to, "\r\n"...)
	x.ToBackend = appendRequestID(to, h.id)
}

func appendRequestID(to []byte, id string) []byte {
	to = append(to, telemetry.RequestIDHeader+": "...)
	to = append(to, id...)
	return append(to, "\r\n"...)
}

// clientOf returns the client of a request. If peer is on this machine or in a private network, as
// Traefik is, that is the last address in its X-Forwarded-For, and otherwise peer itself. Addresses
// further to the front may be forged. A client is an IPv4 address or an IPv6 /64 network.
func clientOf(peer netip.Addr, hops []byte) netip.Addr {
	if len(hops) > 0 && (peer.IsLoopback() || peer.IsPrivate() || peer.IsLinkLocalUnicast()) {
		last := bytes.TrimSpace(hops[bytes.LastIndexByte(hops, ',')+1:])
		if named, err := netip.ParseAddr(string(last)); err == nil {
			peer = named.WithZone("").Unmap()
		}
	}
	if peer.Is6() {
		if prefix, err := peer.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return peer
}
