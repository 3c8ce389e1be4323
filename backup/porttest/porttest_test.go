package porttest_test

import (
	"net"
	"strconv"
	"sync"
	"testing"

	"holdfast/backup/porttest"
)

func TestPortsAreFreeAndGivenOnce(t *testing.T) {
	var mu sync.Mutex
	given := map[int]bool{}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 50 {
				port, held, err := porttest.Held()
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { held.Close() })
				mu.Lock()
				if given[port] {
					t.Errorf("port %d was given twice", port)
				}
				given[port] = true
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for port := range given {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Errorf("port %d is not free: %v", port, err)
			continue
		}
		l.Close()
	}
}

func TestAPortIsFreeAgainAfterTheTest(t *testing.T) {
	var port int
	t.Run("a test", func(t *testing.T) { port = porttest.Free(t) })
	mark, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatalf("port %d is still held: %v", port, err)
	}
	mark.Close()
}
