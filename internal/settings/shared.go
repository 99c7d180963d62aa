package settings

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// This file defines what both programs share, so that it has the same names, bounds and
// help texts.

// largestMaxValueBytes keeps a value with its envelope far below the largest row of SQLite
// (1 GB).
const largestMaxValueBytes = 256 << 20

// Address adds an address to listen on. An empty host means all interfaces, and port 0 any
// free port.
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
		"size of the largest value, the same for gateway and backend; larger writes get 413")
}

// TokensFile adds the path of the file with access tokens.
func (s *Set) TokensFile(to *string) {
	s.String(to, "tokens-file", "path", "",
		"file with access tokens, see gateway token; if empty, every client may do everything", nil)
}

// Logging adds the level and the format of the log.
func (s *Set) Logging(level, format *string) {
	s.Choice(level, "log-level", "info", "lowest level that is logged; debug logs every request",
		"debug", "info", "warn", "error")
	s.Choice(format, "log-format", "json", "format of the log", "json", "text")
}

// Metrics adds the address of the metrics.
func (s *Set) Metrics(to *string) {
	s.String(to, "metrics-addr", "host:port", "",
		"address to serve /metrics for Prometheus on, which should not be public; if empty, no metrics are served",
		func(text string) error {
			if text == "" {
				return nil
			}
			return checkAddress(text)
		})
}

// An Address is an address to listen on and the name of its setting.
type Address struct{ Setting, Text string }

// Apart returns an error for each pair of addresses that conflict: they have the same port
// and the same host, or one of them is for all interfaces. An empty address and port 0
// conflict with nothing.
func Apart(addresses ...Address) (mistakes []error) {
	for i, b := range addresses {
		for _, a := range addresses[:i] {
			if overlap(a.Text, b.Text) {
				mistakes = append(mistakes, fmt.Errorf("%s=%q: is the address of %s (%s); give it another port",
					b.Setting, b.Text, a.Setting, a.Text))
			}
		}
	}
	return mistakes
}

func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA == "0" || portA != portB {
		return false
	}
	return hostA == hostB || allInterfaces(hostA) || allInterfaces(hostB)
}

func allInterfaces(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

const (
	// EnvelopeBytes is the room in a request body for the JSON around the value.
	EnvelopeBytes = 64 << 10
	// batchValues is the number of values of the largest size that fit into a batch, in
	// base64. batchEnvelopeBytes is the room for the JSON around them: 128 operations with
	// the longest keys need two thirds of it.
	batchValues        = 4
	batchEnvelopeBytes = 1 << 20
)

// A BodyLimit bounds the body of a request. It is the same at every hop.
type BodyLimit struct {
	Bytes int64
	batch bool
}

// LimitOfBody returns the limit for every request except a batch.
func LimitOfBody(maxValueBytes int64) BodyLimit {
	return BodyLimit{Bytes: maxValueBytes + EnvelopeBytes}
}

// LimitOfBatch returns the limit for a batch.
func LimitOfBatch(maxValueBytes int64) BodyLimit {
	const group, text = 3, 4 // base64 encodes 3 bytes as 4
	return BodyLimit{batchValues*((maxValueBytes+group-1)/group*text) + batchEnvelopeBytes, true}
}

// Exceeded returns the message for a client whose body is larger.
func (l BodyLimit) Exceeded() string {
	why := fmt.Sprintf("KV_MAX_VALUE_BYTES plus %d", EnvelopeBytes)
	if l.batch {
		why = fmt.Sprintf("%d times KV_MAX_VALUE_BYTES in base64, plus %d", batchValues, batchEnvelopeBytes)
	}
	return fmt.Sprintf("body: is over the limit of %d bytes (%s)", l.Bytes, why)
}

// TracesEndpoint returns the URL to send spans to, or "" for none. As OpenTelemetry
// specifies, it is OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_EXPORTER_OTLP_ENDPOINT with
// /v1/traces appended. OTEL_SDK_DISABLED=true means none.
func TracesEndpoint(getenv func(string) string) string {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return ""
	}
	if endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); endpoint != "" {
		return endpoint
	}
	if endpoint := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint != "" {
		return strings.TrimSuffix(endpoint, "/") + "/v1/traces"
	}
	return ""
}

// TracesRatio returns the share of traces to keep, from 0 to 1, according to
// OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. The default is 1.
func TracesRatio(getenv func(string) string) float64 {
	switch strings.TrimPrefix(getenv("OTEL_TRACES_SAMPLER"), "parentbased_") {
	case "always_off":
		return 0
	case "traceidratio":
		if ratio, err := strconv.ParseFloat(getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil && ratio >= 0 && ratio <= 1 {
			return ratio
		}
	}
	return 1
}
