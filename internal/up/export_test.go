package main

import (
	"context"
	"io"
	"os"
	"time"
)

// Exported for the tests.
var (
	Run         = run
	WaitHealthy = waitHealthy
)

const HealthPeriod time.Duration = healthPeriod

// CheckFree checks the addresses in the environment.
func CheckFree(ctx context.Context, getenv func(string) string) error {
	return addressesFrom(getenv, one).checkFree(ctx)
}

// CheckCertificate checks the TLS settings in the environment.
func CheckCertificate(root string, getenv func(string) string, contained bool, out io.Writer) error {
	c := certificateFrom(root, getenv)
	if contained {
		c = c.inContainer(getenv)
	}
	return c.check(time.Now(), out)
}

// Environments returns what is added to the environment of the last gateway and of Traefik.
func Environments(getenv func(string) string, cluster bool) (gateway, traefik []string) {
	l := one
	if cluster {
		l = several
	}
	a := addressesFrom(getenv, l)
	own := a.gateways[l.gateways-1].environment("KV_GATEWAY_ADDR")[len(os.Environ()):]
	return append(own, a.forGateways()...), a.forTraefik()
}
