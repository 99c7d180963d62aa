package generator

import (
	"encoding/base64"
	"strconv"
)

// Etcd speaks the JSON form of etcd's API, with keys and values in base64.
type Etcd struct {
	Host  string
	value []byte // of the last answer
}

// AppendPut appends POST /v3/kv/put.
func (c *Etcd) AppendPut(dst []byte, key string, value []byte) []byte {
	coding := base64.StdEncoding
	size := len(`{"key":"","value":""}`) + coding.EncodedLen(len(key)) + coding.EncodedLen(len(value))
	dst = c.appendHead(dst, "put", size)
	dst = append(dst, `{"key":"`...)
	dst = coding.AppendEncode(dst, []byte(key))
	dst = append(dst, `","value":"`...)
	dst = coding.AppendEncode(dst, value)
	return append(dst, `"}`...)
}

// AppendGet appends POST /v3/kv/range for one key.
func (c *Etcd) AppendGet(dst []byte, key string) []byte {
	dst = c.appendHead(dst, "range", len(`{"key":""}`)+base64.StdEncoding.EncodedLen(len(key)))
	dst = append(dst, `{"key":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte(key))
	return append(dst, `"}`...)
}

func (c *Etcd) appendHead(dst []byte, operation string, size int) []byte {
	dst = append(dst, "POST /v3/kv/"...)
	dst = append(dst, operation...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, c.Host...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(size), 10)
	return append(dst, "\r\n\r\n"...)
}

// Parse reads an answer. The version is the revision of the store at which the key was written,
// because the answer to a write has no other number.
func (c *Etcd) Parse(buffer []byte, put bool) (Answer, int, error) {
	status, body, length, err := parseHTTP(buffer)
	if err != nil || length == 0 {
		return Answer{}, 0, err
	}
	if status != 200 {
		return Answer{}, length, wrong("status %d: %s", status, body)
	}
	name := `"mod_revision":"`
	if put {
		name = `"revision":"`
	}
	version, ok := number(body, name)
	if !ok {
		return Answer{}, length, wrong("no revision in %s", body)
	}
	if put {
		return Answer{Version: version}, length, nil
	}
	coded, ok := text(body, `"value":`)
	if !ok {
		return Answer{}, length, wrong("no value in %s", body)
	}
	c.value, err = base64.StdEncoding.AppendDecode(c.value[:0], coded[1:len(coded)-1])
	if err != nil {
		return Answer{}, length, wrong("value: %v", err)
	}
	return Answer{Version: version, Value: c.value}, length, nil
}
