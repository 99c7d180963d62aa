package settings

import (
	"fmt"
	"net"
	"slices"
)

// An Address is where something listens, with the setting that says so.
type Address struct{ Setting, Text string }

// Apart returns an error for each two addresses that no program can listen on at once:
// they have the same port and the same host, or one of them is every interface. An
// empty address and the port 0 are apart from all.
func Apart(addresses ...Address) (mistakes []error) {
	for i, b := range addresses {
		for _, a := range addresses[:i] {
			if overlap(a.Text, b.Text) {
				mistakes = append(mistakes, fmt.Errorf("%s=%q: is the address of %s (%s); give it another port", b.Setting, b.Text, a.Setting, a.Text))
			}
		}
	}
	return mistakes
}

func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA == "0" || portA != portB {
		return false
	}
	return hostA == hostB || slices.ContainsFunc([]string{hostA, hostB}, everywhere)
}

func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
