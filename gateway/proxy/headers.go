package proxy

import (
	"bytes"
	"net/netip"

	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

// A meaning is what a header is to this package.
type meaning uint8

const (
	requestID meaning = iota + 1
	via
	forwardedFor
	forwardedHost
	forwardedProto
	secret // the token of the client
	bearer // what only the gateway may tell a backend of it
)

var meanings = h1.NewNames(map[string]meaning{
	"x-request-id": requestID, "via": via,
	"x-forwarded-for": forwardedFor, "x-forwarded-host": forwardedHost, "x-forwarded-proto": forwardedProto,
	"authorization": secret, "x-kv-author": bearer, "x-kv-read-prefixes": bearer, "x-kv-write-prefixes": bearer,
})

// replaced are the headers of an answer that the gateway sets itself, or keeps to itself.
var replaced = []string{
	"x-request-id", "x-kv-author", "x-kv-read-prefixes", "x-kv-write-prefixes",
	"x-content-type-options", "x-frame-options", "referrer-policy", "permissions-policy", "strict-transport-security",
}

// What each answer tells browsers, in place of what a backend says of the same: the
// strictest there is. There is no Content-Security-Policy, since the backend has a better
// one for each kind of answer.
const (
	securityHeaders = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n" +
		"Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"
	// strictTransport is for who came over TLS. Over plain HTTP anybody could say it.
	strictTransport = "Strict-Transport-Security: max-age=31536000\r\n"
)

// readHeaders learns from the headers of x what the gateway needs, drops those that a
// backend must not see, and appends those that it gets, but for the bearer's and the
// trace's: X-Request-Id, Via, and the X-Forwarded ones with this hop.
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

// clientOf returns who sends a request: whom the hop in front, peer, names last in its
// X-Forwarded-For, if that hop is on this machine or in a private network, as Traefik is,
// and else the peer itself. What stands further in front in that header anybody may have
// written. A client is an IPv4 address or an IPv6 /64 network.
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
