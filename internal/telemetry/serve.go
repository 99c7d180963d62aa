package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// DrainTimeout bounds how long a stopping server waits for requests in flight. It is
	// shorter than the 30 s after which supervisors kill.
	DrainTimeout = 25 * time.Second
	// HeaderTimeout bounds how long a client may take to send its headers.
	HeaderTimeout = 10 * time.Second
	// IdleTimeout is how long an idle connection is kept. It is longer than that of every
	// client in the chain, so that a server never closes a connection on which a write is
	// being sent.
	IdleTimeout = 180 * time.Second
	// MaxHeaderBytes bounds the request line and the headers.
	MaxHeaderBytes = 64 << 10
)

// Serve answers requests on listener until ctx ends. Then it stops accepting, waits up to
// DrainTimeout for the requests in flight, and returns nil if all of them were answered.
// It always closes listener.
//
// A client that does not read its answer is disconnected after WriteTimeout. A client that
// has closed its sending side is still answered: within Requests, the context of a request
// ends only when the connection breaks.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	return serve(ctx, clientListener{listener, logger, WriteTimeout}, handler, logger)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: HeaderTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ConnContext:       withClient,
		ConnState:         connState,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	logger.Info("listening", "address", listener.Addr().String(), "version", Version)

	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	logger.Info("stopping after the requests in flight")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = fmt.Errorf("drain: %w", errors.Join(err, server.Close()))
	}
	if stopped := <-served; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}
