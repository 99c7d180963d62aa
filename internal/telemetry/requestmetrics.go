package telemetry

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherRoute is the label of requests to unknown routes.
const OtherRoute = "other"

// methods are the labels of methods. The last one is for all others.
var methods = [...]string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "other"}

// durationBuckets are in seconds. A cached read takes tens of microseconds, a request that
// times out takes half a minute.
var durationBuckets = []float64{
	.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
}

const (
	minStatus = 100
	maxStatus = 599
	// statusClientClosed means that the client went away before the answer.
	statusClientClosed = 499
)

// statusSlots numbers the statuses that have a name, from 1. The others share 0, and their
// counter is looked up each time.
var statusSlots = func() (slots [maxStatus - minStatus + 1]uint8) {
	next := uint8(1)
	for status := minStatus; status <= maxStatus; status++ {
		if http.StatusText(status) != "" || status == statusClientClosed {
			slots[status-minStatus] = next
			next++
		}
	}
	return slots
}()

// maxSlots is more than statusSlots uses.
const maxSlots = 80

// RequestMetrics counts requests by route, method and status, and measures their
// durations by route. A request costs two atomic additions and an observation, because
// counters with labels are looked up only once.
type RequestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  prometheus.Counter
	routes   map[string]*RouteMetrics
}

// RouteMetrics counts the requests to one route.
type RouteMetrics struct {
	name     string
	total    *prometheus.CounterVec
	duration prometheus.Observer
	counters [len(methods)][maxSlots]atomic.Pointer[prometheus.Counter]
}

func newRequestMetrics(prefix string, routes []string) *RequestMetrics {
	m := &RequestMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_requests_total",
			Help: "Requests that have ended. Status 499: the client went away before the answer.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_request_duration_seconds", Help: "Time from a request to the end of its answer, without streams.",
			Buckets: durationBuckets,
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_requests_in_flight", Help: "Requests in flight, including streams.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_requests_refused_total",
			Help: "Requests that were refused and connections that were closed because there were too many.",
		}),
		routes: map[string]*RouteMetrics{},
	}
	for _, name := range append([]string{OtherRoute}, routes...) {
		m.routes[name] = &RouteMetrics{name: name, total: m.total, duration: m.duration.WithLabelValues(name)}
	}
	return m
}

// Route returns the metrics of the named route, or those of OtherRoute if it is unknown.
func (m *RequestMetrics) Route(name string) *RouteMetrics {
	if route, ok := m.routes[name]; ok {
		return route
	}
	return m.routes[OtherRoute]
}

// Begin marks the start of a request. The request is in flight until End.
func (m *RequestMetrics) Begin() { m.inFlight.Inc() }

// End marks the end of a request.
func (m *RequestMetrics) End() { m.inFlight.Dec() }

// Refused counts a request that was refused because there were too many. It does nothing
// if m is nil.
func (m *RequestMetrics) Refused() {
	if m != nil {
		m.refused.Inc()
	}
}

// Count counts a request that has ended. The status is 0 if its client went away before
// the answer. The duration of a stream is not observed.
func (r *RouteMetrics) Count(method string, status int, took time.Duration, stream bool) {
	if !stream {
		r.duration.Observe(took.Seconds())
	}
	if status == 0 {
		status = statusClientClosed
	}
	status = min(max(status, minStatus), maxStatus)
	m, slot := methodIndex(method), statusSlots[status-minStatus]
	cached := &r.counters[m][slot]
	counter := cached.Load()
	if counter == nil {
		c := r.total.WithLabelValues(r.name, methods[m], strconv.Itoa(status))
		if counter = &c; slot != 0 {
			cached.Store(counter)
		}
	}
	(*counter).Inc()
}

func methodIndex(method string) int {
	for i, known := range methods[:len(methods)-1] {
		if method == known {
			return i
		}
	}
	return len(methods) - 1
}
