package settings

import (
	"errors"
	"net"
	"strconv"
)

// The settings that both programs have are defined here, once, so that they have
// the same names, bounds and words.

// largestMaxValueBytes keeps a value with its envelope far below what SQLite
// stores in a row (1 GB).
const largestMaxValueBytes = 256 << 20

// Address adds an address to listen on. The host may be empty, for every
// interface, and the port 0, for any that is free.
func (s *Set) Address(to *string, name, def string) {
	s.String(to, name, "host:port", def, "address to listen on", checkAddress)
}

func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("must be host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("must end in a port from 0 to 65535")
	}
	return nil
}

// MaxValueBytes adds the size of the largest value.
func (s *Set) MaxValueBytes(to *int64) {
	s.Size(to, "max-value-bytes", "1MiB", 1, largestMaxValueBytes,
		"size of the largest value, the same for gateway and backend; over it a write gets 413")
}

// TokensFile adds the path of the file of access tokens.
func (s *Set) TokensFile(to *string) {
	s.String(to, "tokens-file", "path", "",
		"file of access tokens, see gateway token; empty lets everybody do everything", nil)
}

// Logging adds the level and the format of the log.
func (s *Set) Logging(level, format *string) {
	s.Choice(level, "log-level", "info", "least level that is logged; debug has a line for each request", "debug", "info", "warn", "error")
	s.Choice(format, "log-format", "json", "form of the log", "json", "text")
}

// Metrics adds the address of the metrics.
func (s *Set) Metrics(to *string) {
	s.String(to, "metrics-addr", "host:port", "",
		"address to serve /metrics for Prometheus on, not for the outside; empty serves none", func(text string) error {
			if text == "" {
				return nil
			}
			return checkAddress(text)
		})
}
