package generator

import (
	"strconv"
)

// KV speaks the HTTP API of this service, at any hop.
type KV struct{ Host string }

// AppendPut appends PUT /put/{key}.
func (c KV) AppendPut(dst []byte, key string, value []byte) []byte {
	dst = append(dst, "PUT /put/"...)
	dst = append(dst, key...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, c.Host...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(`{"value":}`)+len(value)), 10)
	dst = append(dst, "\r\n\r\n{\"value\":"...)
	dst = append(dst, value...)
	return append(dst, '}')
}

// AppendGet appends GET /get/{key}.
func (c KV) AppendGet(dst []byte, key string) []byte {
	dst = append(dst, "GET /get/"...)
	dst = append(dst, key...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, c.Host...)
	return append(dst, "\r\n\r\n"...)
}

// Parse reads an answer.
func (c KV) Parse(buffer []byte, put bool) (Answer, int, error) {
	status, body, length, err := parseHTTP(buffer)
	if err != nil || length == 0 {
		return Answer{}, 0, err
	}
	if status != 200 {
		return Answer{}, length, wrong("status %d: %s", status, body)
	}
	version, ok := number(body, `"version":`)
	if !ok {
		return Answer{}, length, wrong("no version in %s", body)
	}
	if put {
		return Answer{Version: version}, length, nil
	}
	value, ok := text(body, `"value":`)
	if !ok {
		return Answer{}, length, wrong("no value in %s", body)
	}
	return Answer{Version: version, Value: value}, length, nil
}

// Stats reads /db/stats of this service, regardless of the key. The version of an answer is the
// number of versions in the store. There are no writes.
type Stats struct{ Host string }

// AppendPut appends nothing.
func (c Stats) AppendPut(dst []byte, _ string, _ []byte) []byte { return dst }

// AppendGet appends GET /db/stats.
func (c Stats) AppendGet(dst []byte, _ string) []byte {
	dst = append(dst, "GET /db/stats HTTP/1.1\r\nHost: "...)
	dst = append(dst, c.Host...)
	return append(dst, "\r\n\r\n"...)
}

// Parse reads an answer.
func (c Stats) Parse(buffer []byte, _ bool) (Answer, int, error) {
	status, body, length, err := parseHTTP(buffer)
	if err != nil || length == 0 {
		return Answer{}, 0, err
	}
	if status != 200 {
		return Answer{}, length, wrong("status %d: %s", status, body)
	}
	versions, ok := number(body, `"total_versions":`)
	if !ok {
		return Answer{}, length, wrong("no total_versions in %s", body)
	}
	return Answer{Version: versions, NoValue: true}, length, nil
}
