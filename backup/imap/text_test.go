package imap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// TestTextsDoNotShareMemory takes and closes texts of all sizes: one that is open
// stays as it is, and a closed one, closed again, has nothing.
func TestTextsDoNotShareMemory(t *testing.T) {
	for _, size := range []int64{0, 1, 1 << leastText, 1<<leastText + 1, 70_000, wholeUpTo, wholeUpTo + 1} {
		open := newText(size)
		for i := range open {
			open[i] = 'a'
		}
		held := holdText(open)
		for range 3 {
			next := newText(size)
			if int64(len(next)) != size {
				t.Fatalf("a text of %d bytes, want %d", len(next), size)
			}
			for i := range next {
				next[i] = 'b'
			}
			closed := holdText(next)
			for range 2 {
				_ = closed.Close() // never fails
				if n, err := closed.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("a closed text gives %d bytes, %v", n, err)
				}
			}
		}
		if got, _ := io.ReadAll(held); !bytes.Equal(got, bytes.Repeat([]byte("a"), int(size))) {
			t.Errorf("a text of %d bytes changed while it was open", size)
		}
	}
}

func TestOnlyLoopbackGoesWithoutTLS(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.1": false, "2001:db8::1": false, "0.0.0.0": false} {
		if got := loopback(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("loopback(%s) = %v, want %v", address, got, want)
		}
	}
	if loopback(&net.UnixAddr{Name: "/run/imap"}) {
		t.Error("a socket of the file system is taken for loopback")
	}
}
