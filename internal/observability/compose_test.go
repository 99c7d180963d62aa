package observability_test

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestComposeProfile checks that the files that the compose file mounts exist, and that
// Prometheus uses the addresses of the programs' metrics.
func TestComposeProfile(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Profiles    []string
			Environment map[string]string
			Volumes     []string
			Ports       []string
		}
	}
	read(t, "../../docker-compose.yml", &compose)
	for name, service := range compose.Services {
		observer := name == "prometheus" || name == "grafana" || name == "jaeger"
		if observer && (len(service.Profiles) != 1 || service.Profiles[0] != "observability") {
			t.Errorf("%s has the profiles %v", name, service.Profiles)
		}
		if !observer {
			continue
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for _, volume := range service.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(source, "./") {
				if _, err := os.Stat("../../" + source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	var prometheus struct {
		RuleFiles []string `yaml:"rule_files"`
		Jobs      []struct {
			Name   string                       `yaml:"job_name"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
			DNS    []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus.yml", &prometheus)
	asked := map[string]string{}
	for _, job := range prometheus.Jobs {
		for _, static := range job.Static {
			for _, target := range static.Targets {
				host, port, _ := strings.Cut(target, ":")
				asked[host] = job.Name + " :" + port
			}
		}
		for _, dns := range job.DNS {
			for _, host := range dns.Names {
				asked[host] = job.Name + " :" + dns.Port
			}
		}
	}
	for _, name := range []string{"backend", "gateway"} {
		address := compose.Services[name].Environment["KV_METRICS_ADDR"]
		if want := "kv-" + name + " " + address; asked[name] != want || address == "" {
			t.Errorf("Prometheus asks %s as %q, want %q", name, asked[name], want)
		}
	}
	for _, file := range prometheus.RuleFiles {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestPrometheusVersion checks that the image has the version whose libraries are
// used here: v3.N.P of the program is v0.3NN.P of the module.
func TestPrometheusVersion(t *testing.T) {
	var compose struct {
		Services map[string]struct{ Image string }
	}
	read(t, "../../docker-compose.yml", &compose)
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "github.com/prometheus/prometheus v0.")
	module, _, _ := strings.Cut(rest, "\n")
	number, patch, _ := strings.Cut(module, ".")
	if len(number) != 3 {
		t.Fatalf("go.mod requires %q", module)
	}
	want := "prom/prometheus:v" + number[:1] + "." + strings.TrimPrefix(number[1:], "0") + "." + patch
	if got := compose.Services["prometheus"].Image; got != want {
		t.Errorf("the image is %s, the module is of %s", got, want)
	}
}
