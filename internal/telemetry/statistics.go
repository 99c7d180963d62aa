package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Describe returns what a metric of Statistics is called and means.
func Describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Send takes the value of one metric; labels are the values of its labels.
type Send func(metric *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)

// Statistics read what a part of a program counts, at each scrape; between scrapes it
// costs nothing.
type Statistics func(Send)

// Describe names no metric, which makes the registry check each scrape instead.
func (s Statistics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the statistics.
func (s Statistics) Collect(to chan<- prometheus.Metric) {
	s(func(metric *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(metric, kind, value, labels...)
	})
}
