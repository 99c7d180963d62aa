package settings

import (
	"strconv"
	"strings"
)

// TracesEndpoint returns the URL that spans are sent to, "" for none: that of
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, or of OTEL_EXPORTER_OTLP_ENDPOINT with
// /v1/traces behind it, as OpenTelemetry has it. OTEL_SDK_DISABLED=true means none.
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

// TracesRatio returns which share of the traces is kept, from 0 to 1, as
// OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say: all unless they name a ratio.
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
