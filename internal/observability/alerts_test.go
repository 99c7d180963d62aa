package observability_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// alertCases is the part of promtool's test file format that alerts_test.yml uses.
type alertCases struct {
	Rules []string       `yaml:"rule_files"`
	Every model.Duration `yaml:"evaluation_interval"`
	Tests []struct {
		Name     string
		Interval model.Duration
		Input    []struct{ Series, Values string } `yaml:"input_series"`
		Cases    []struct {
			At       model.Duration `yaml:"eval_time"`
			Alert    string         `yaml:"alertname"`
			Expected []struct {
				Labels      map[string]string `yaml:"exp_labels"`
				Annotations map[string]string `yaml:"exp_annotations"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

// TestAlerts runs alerts_test.yml with Prometheus' own engine. The file must have a case
// that fires and one that does not for every alert.
func TestAlerts(t *testing.T) {
	var file alertCases
	read(t, "alerts_test.yml", &file)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var load strings.Builder
			fmt.Fprintf(&load, "load %s\n", test.Interval)
			for _, input := range test.Input {
				fmt.Fprintf(&load, "  %s %s\n", input.Series, input.Values)
			}
			want, moments := map[string][]string{}, map[time.Duration]bool{}
			for _, c := range test.Cases {
				at := time.Duration(c.At)
				moments[at] = true
				alerts := []string{}
				for _, expected := range c.Expected {
					alerts = append(alerts, fmt.Sprintln(expected.Labels, expected.Annotations))
				}
				slices.Sort(alerts)
				want[fmt.Sprint(c.Alert, " at ", at)] = alerts
				fires[c.Alert] = fires[c.Alert] || len(alerts) > 0
				quiet[c.Alert] = quiet[c.Alert] || len(alerts) == 0
			}
			got := evaluate(t, load.String(), file.Rules, time.Duration(file.Every), moments)
			for name := range got {
				if _, asked := want[name]; !asked {
					delete(got, name)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
	for name := range alertNames(t, file.Rules) {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s: seen to fire %t, seen quiet %t", name, fires[name], quiet[name])
		}
	}
}

// evaluate returns the firing alerts at each time, by alert name and time.
func evaluate(t *testing.T, load string, files []string, every time.Duration, moments map[time.Duration]bool) map[string][]string {
	t.Helper()
	loader, err := promqltest.NewLazyLoader(load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loader.Close()
	loader.SubqueryInterval = every
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:  rules.EngineQueryFunc(loader.QueryEngine(), loader.Storage()),
		Appendable: loader.Storage(),
		Context:    t.Context(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger:     slog.New(slog.DiscardHandler),
		Parser:     parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(every, labels.EmptyLabels(), "", nil, false, files...)
	if errs != nil {
		t.Fatal(errs)
	}
	got := map[string][]string{}
	for at, last := time.Duration(0), slices.Max(slices.Collect(maps.Keys(moments))); at <= last; at += every {
		now := time.Unix(0, 0).UTC().Add(at)
		loader.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, group := range groups {
				group.Eval(loader.Context(), now)
				for _, rule := range group.AlertingRules() {
					if rule.LastError() != nil {
						t.Fatal(rule.Name(), rule.LastError())
					}
					if moments[at] {
						got[fmt.Sprint(rule.Name(), " at ", at)] = firing(rule)
					}
				}
			}
		})
	}
	return got
}

// firing returns the labels and annotations of the firing alerts of a rule.
func firing(rule *rules.AlertingRule) []string {
	alerts := []string{}
	for _, alert := range rule.ActiveAlerts() {
		if alert.State == rules.StateFiring {
			named := alert.Labels.Map()
			delete(named, model.AlertNameLabel)
			alerts = append(alerts, fmt.Sprintln(named, alert.Annotations.Map()))
		}
	}
	slices.Sort(alerts)
	return alerts
}

func alertNames(t *testing.T, files []string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, file := range files {
		var groups struct {
			Groups []struct{ Rules []struct{ Alert string } }
		}
		read(t, file, &groups)
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				names[rule.Alert] = true
			}
		}
	}
	return names
}
