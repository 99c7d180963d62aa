package generator

import (
	"bytes"
	"fmt"
	"strconv"
)

// Redis speaks RESP2.
type Redis struct{}

// AppendPut appends SET.
func (Redis) AppendPut(dst []byte, key string, value []byte) []byte {
	dst = append(dst, "*3\r\n$3\r\nSET\r\n"...)
	dst = appendBulk(dst, []byte(key))
	return appendBulk(dst, value)
}

// AppendGet appends GET.
func (Redis) AppendGet(dst []byte, key string) []byte {
	dst = append(dst, "*2\r\n$3\r\nGET\r\n"...)
	return appendBulk(dst, []byte(key))
}

func appendBulk(dst, content []byte) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(content)), 10)
	dst = append(dst, "\r\n"...)
	dst = append(dst, content...)
	return append(dst, "\r\n"...)
}

// Parse reads an answer.
func (Redis) Parse(buffer []byte, put bool) (Answer, int, error) {
	end := bytes.Index(buffer, []byte("\r\n"))
	if end < 0 {
		return Answer{}, 0, nil
	}
	line, length := buffer[:end], end+2
	switch {
	case put && string(line) == "+OK":
		return Answer{Version: NoVersion}, length, nil
	case put || len(line) < 2 || line[0] == '-' || line[1] == '-':
		return Answer{}, length, wrong("%s", line)
	case line[0] != '$':
		return Answer{}, 0, fmt.Errorf("%w: %q", errBroken, line)
	}
	size, err := strconv.Atoi(string(line[1:]))
	if err != nil {
		return Answer{}, 0, fmt.Errorf("%w: %q", errBroken, line)
	}
	if len(buffer) < length+size+2 {
		return Answer{}, 0, nil
	}
	return Answer{Version: NoVersion, Value: buffer[length : length+size]}, length + size + 2, nil
}
