// Package porttest finds ports of loopback for servers that tests start, and
// kill and start again.
package porttest

import (
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports below those that systems hand out by themselves, to whoever connects or
// listens on any: what is free here stays so.
const (
	first = 20000
	end   = 32000
)

// Held returns a port of loopback that nothing listens on. Until held is closed,
// no other caller on this machine gets it.
func Held() (port int, held io.Closer, err error) {
	for range 1000 {
		port = first + rand.IntN(end-first)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		// The same number of UDP is nobody's business: it marks the port as taken.
		mark, markErr := net.ListenPacket("udp", address)
		if markErr != nil {
			err = markErr
			continue
		}
		listener, listenErr := net.Listen("tcp", address)
		if listenErr == nil {
			return port, mark, listener.Close()
		}
		mark.Close()
		err = listenErr
	}
	return 0, nil, err
}

var kept struct { // would be closed as garbage
	sync.Mutex
	marks []io.Closer
}

// Kept is a port of Held for as long as the process lasts.
func Kept() (int, error) {
	port, held, err := Held()
	kept.Lock()
	defer kept.Unlock()
	kept.marks = append(kept.marks, held)
	return port, err
}

// TB is what Free needs of a test.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
}

// Free is a port of Held for as long as a test lasts.
func Free(t TB) int {
	t.Helper()
	port, held, err := Held()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return port
}
