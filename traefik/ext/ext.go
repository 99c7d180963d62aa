// Package ext is what Traefik's own repository keeps beside its module, and what
// therefore no module proxy has: the members that an edition of Traefik adds to
// the dynamic configuration. This one adds none.
package ext

// HTTP would have members of the section "http".
type HTTP struct{}

// Router would have members of a router.
type Router struct{}
