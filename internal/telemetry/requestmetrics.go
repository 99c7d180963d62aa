package telemetry

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherRoute is the label of a request to no known route.
const OtherRoute = "other"

// methods are the labels of methods; the last is for all that are none of these.
var methods = [...]string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "other"}

// durationBuckets are in seconds: a cached read takes some tens of microseconds, a
// request that waits for a timeout half a minute.
var durationBuckets = []float64{
	.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
}

const (
	leastStatus = 100
	mostStatus  = 599
	// statusClientClosed is for a client that went away before the answer.
	statusClientClosed = 499
)

// statusSlots numbers the statuses that have a name, from 1; the others share 0 and
// are looked up each time.
var statusSlots = func() (slots [mostStatus - leastStatus + 1]uint8) {
	next := uint8(1)
	for status := leastStatus; status <= mostStatus; status++ {
		if http.StatusText(status) != "" || status == statusClientClosed {
			slots[status-leastStatus] = next
			next++
		}
	}
	return slots
}()

// namedStatuses is more than there are.
const namedStatuses = 80

// RequestMetrics count requests by route, method and status, and their times by
// route. A request costs two atomic additions and an observation: all that has
// labels is looked up once, the first time.
type RequestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  prometheus.Counter
	routes   map[string]*RouteMetrics
}

// RouteMetrics count the requests of one route.
type RouteMetrics struct {
	name     string
	total    *prometheus.CounterVec
	duration prometheus.Observer
	counters [len(methods)][namedStatuses]atomic.Pointer[prometheus.Counter]
}

func newRequestMetrics(prefix string, routes []string) *RequestMetrics {
	m := &RequestMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_requests_total", Help: "Requests that have ended. Status 499: the client went away before the answer.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_request_duration_seconds", Help: "Time from a request to the end of its answer, streams left out.",
			Buckets: durationBuckets,
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_requests_in_flight", Help: "Requests that have not ended, streams included.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_requests_refused_total", Help: "Requests that were refused at once, and connections closed, since there were too many.",
		}),
		routes: map[string]*RouteMetrics{},
	}
	for _, name := range append([]string{OtherRoute}, routes...) {
		m.routes[name] = &RouteMetrics{name: name, total: m.total, duration: m.duration.WithLabelValues(name)}
	}
	return m
}

// Route returns what counts the requests of that route; one that is not known is
// OtherRoute.
func (m *RequestMetrics) Route(name string) *RouteMetrics {
	if route, ok := m.routes[name]; ok {
		return route
	}
	return m.routes[OtherRoute]
}

// Begin and End count a request as in flight between them.
func (m *RequestMetrics) Begin() { m.inFlight.Inc() }

// End ends what Begin began.
func (m *RequestMetrics) End() { m.inFlight.Dec() }

// Refused counts a request that was refused since there were too many. A nil
// *RequestMetrics counts nothing.
func (m *RequestMetrics) Refused() {
	if m != nil {
		m.refused.Inc()
	}
}

// Count counts a request that has ended, with status 0 when its client went away
// before an answer. stream leaves its time out.
func (r *RouteMetrics) Count(method string, status int, took time.Duration, stream bool) {
	if !stream {
		r.duration.Observe(took.Seconds())
	}
	if status == 0 {
		status = statusClientClosed
	}
	status = min(max(status, leastStatus), mostStatus)
	m, slot := methodIndex(method), statusSlots[status-leastStatus]
	at := &r.counters[m][slot]
	counter := at.Load()
	if counter == nil {
		c := r.total.WithLabelValues(r.name, methods[m], strconv.Itoa(status))
		if counter = &c; slot != 0 {
			at.Store(counter)
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
