package main

import (
	"context"
	"io"
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
	return addressesFrom(getenv).checkFree(ctx)
}

// CheckCertificate checks the TLS settings in the environment.
func CheckCertificate(root string, getenv func(string) string, contained bool, out io.Writer) error {
	c := certificateFrom(root, getenv)
	if contained {
		c = c.inContainer(getenv)
	}
	return c.check(time.Now(), out)
}

// Environments returns what is added to the environment of gateway and Traefik.
func Environments(getenv func(string) string) (gateway, traefik []string) {
	a := addressesFrom(getenv)
	return a.forGateway(nil), a.forTraefik(nil)
}
