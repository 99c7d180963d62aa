package telemetry

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// BuiltFrom exports builtFrom.
var BuiltFrom = builtFrom

// ServeWithin is Serve with another WriteTimeout.
func ServeWithin(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger, timeout time.Duration) error {
	return serve(ctx, clientListener{listener, logger, timeout}, handler, logger)
}
