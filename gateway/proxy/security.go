package proxy

import "kvstore/gateway/wire"

// securityHeaders are what each answer tells browsers, in place of what a backend says
// of the same: the strictest there is. There is none for Content-Security-Policy,
// since the backend has a better one for each kind of answer.
const (
	securityHeaders = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n" +
		"Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"
	// strictTransport is for who came over TLS. Over plain HTTP anybody could say it.
	strictTransport = "Strict-Transport-Security: max-age=31536000\r\n"
)

// appendSecurity appends the headers for browsers.
func (c *conn) appendSecurity(to []byte) []byte {
	to = append(to, securityHeaders...)
	if c.secure {
		to = append(to, strictTransport...)
	}
	return to
}

// cameOverTLS reports whether the hop in front says so.
func cameOverTLS(fields []wire.Field) bool {
	for i := range fields {
		if fields[i].Kind == wire.ForwardedProto {
			return wire.EqualFold(fields[i].Value, "https")
		}
	}
	return false
}
