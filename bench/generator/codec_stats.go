package generator

// Stats reads /db/stats of this service, whatever the key. The version in its
// answers is the number of versions in the store; there are no writes.
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
