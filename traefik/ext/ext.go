// Package ext replaces a package in Traefik's repository that is not part of its module, so
// it is not on any module proxy. It has the members that an edition of Traefik adds to the
// dynamic configuration. This one adds none.
package ext

// HTTP has members of the section "http".
type HTTP struct{}

// Router has members of a router.
type Router struct{}
