package main

import (
	"crypto/tls"
	"net/http"
)

// scheme is how clients speak to the service: Traefik has TLS when it has a
// certificate.
func scheme(getenv func(string) string) string {
	if getenv("KV_TLS_CERT") != "" {
		return "https"
	}
	return "http"
}

// healthClient asks this machine, by its number, whether the service is up, and sends
// nothing that is secret: whose certificate that is does not matter.
var healthClient = &http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as above
}}
