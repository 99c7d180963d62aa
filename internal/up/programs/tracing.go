package programs

import (
	"fmt"
	"strconv"
)

// TracingConfig returns the static configuration of Traefik with traces, of which
// ratio (0 to 1) are kept, sent to the URL endpoint as OTLP over HTTP. Traefik reads its
// static configuration from one source, and no variable of OpenTelemetry stands in for
// these members.
func TracingConfig(static []byte, endpoint string, ratio float64) []byte {
	return fmt.Appendf(append([]byte(nil), static...), `
# Each request is a trace, which the gateway and the backend continue. Traefik's spans contain the path, and so the key, in
# url.path. Those of the other programs never do.
tracing:
  serviceName: traefik
  sampleRate: %s
  otlp:
    http:
      endpoint: %q
`, strconv.FormatFloat(ratio, 'f', -1, 64), endpoint)
}
