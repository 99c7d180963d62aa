package store

import "time"

// systemTime is the only place where a store reads the system clock, unless its Config has
// another clock. The tests of clock steps build the program with another file in place of this
// one (go build -overlay), since a process has no clock of its own.
func systemTime() time.Time { return time.Now() }
