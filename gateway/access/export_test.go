package access

// Look looks at the file. It must not run beside watch.
func (g *Guard) Look() { g.look() }
