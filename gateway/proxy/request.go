package proxy

import (
	"strconv"

	"kvstore/gateway/wire"
	"kvstore/internal/telemetry"
)

// appendRequest appends the head of r as a backend gets it: as the client sent
// it, but for the headers that belong to one connection, the X-Forwarded ones,
// which gain this hop, as Via does under name, the request id, traceparent when there is a span, and what is
// about the bearer of a token: of that a backend gets what bearer says, whole header
// lines, and not the token.
func appendRequest(to []byte, r *wire.Request, name, id, clientIP string, bearer []byte, s *span) []byte {
	to = append(to, r.Method...)
	to = append(to, ' ')
	to = append(to, r.Target...)
	to = append(to, " HTTP/1.1\r\nHost: "...)
	to = append(to, r.Host...)
	to = append(to, "\r\n"...)
	var toldHost, toldProto bool
	for i := range r.Fields {
		field := &r.Fields[i]
		switch field.Kind {
		case wire.Plain, wire.Security:
			if field.Named || s.replaces(field.Name) {
				continue
			}
		case wire.ForwardedHost:
			toldHost = true
		case wire.ForwardedProto:
			toldProto = true
		case wire.Date:
		case wire.Host, wire.ContentLength, wire.TransferEncoding, wire.Expect, wire.RequestID, wire.ForwardedFor:
			continue // written above or below
		case wire.Authorization, wire.Internal:
			continue // a secret, and what only the gateway may say
		case wire.Connection, wire.HopByHop:
			continue // of the client's connection only
		}
		to = wire.AppendField(to, field.Name, field.Value)
	}
	if !toldHost && len(r.Host) > 0 {
		to = wire.AppendField(to, forwardedHost, r.Host)
	}
	if !toldProto {
		to = append(to, "X-Forwarded-Proto: http\r\n"...)
	}
	to = appendForwardedFor(to, r.Fields, clientIP)
	to = appendVia(to, r.Minor, name)
	to = wire.AppendField(to, requestIDHeader, id)
	to = append(to, bearer...)
	if s != nil {
		to = wire.AppendField(to, traceparentHeader, s.parent)
	}
	switch {
	case r.Length == wire.Chunked:
		to = append(to, chunkedHeader...)
	case r.HasLength:
		to = appendLength(to, r.Length)
	}
	if r.Continue {
		to = append(to, "Expect: 100-continue\r\n"...)
	}
	return append(to, "\r\n"...)
}

var (
	forwardedHost   = []byte("X-Forwarded-Host")
	requestIDHeader = []byte(telemetry.RequestIDHeader)
	chunkedHeader   = []byte("Transfer-Encoding: chunked\r\n")

	traceparentHeader = []byte(traceparent)
)

func appendLength(to []byte, length int64) []byte {
	to = append(to, "Content-Length: "...)
	to = strconv.AppendInt(to, length, 10)
	return append(to, "\r\n"...)
}

// appendForwardedFor adds the client's address behind those that earlier hops
// have told.
func appendForwardedFor(to []byte, fields []wire.Field, clientIP string) []byte {
	to = append(to, "X-Forwarded-For: "...)
	for i := range fields {
		if fields[i].Kind == wire.ForwardedFor && len(fields[i].Value) > 0 {
			to = append(to, fields[i].Value...)
			to = append(to, ", "...)
		}
	}
	to = append(to, clientIP...)
	return append(to, "\r\n"...)
}

// requestID returns the id that the client gave, if it is sane, else a new one.
func requestID(fields []wire.Field) string {
	for i := range fields {
		if fields[i].Kind == wire.RequestID {
			return telemetry.RequestIDOr(fields[i].Value)
		}
	}
	return telemetry.RequestIDOr(nil)
}
