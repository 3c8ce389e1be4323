package engine

import (
	"os"
	"runtime/debug"
)

// Of the collector, unless GOGC or GOMEMLIMIT say otherwise: a backup allocates
// much and keeps little, so the heap may grow to five times what lives before it
// is collected, but never beyond what leaves a process well under 256 MiB.
const (
	gcPercent   = 400
	memoryLimit = 176 << 20
)

// TuneMemory sets Go's collector for a process that backs up.
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
