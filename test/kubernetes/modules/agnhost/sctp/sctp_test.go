package sctp

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// Needs CAP_NET_RAW.
func TestAssociation(t *testing.T) {
	if KernelHas() {
		t.Skip("the kernel has SCTP")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go Serve(ctx, 9003)
	for _, address := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} {
		if err := Connect(address, 9003, 5*time.Second); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if err := Connect(address, 9004, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s, a port that nobody serves: %v", address, err)
		}
	}
}

func TestChecksum(t *testing.T) {
	packet := message{from: 1, to: 2, tag: 3, chunk: chunkInit, parameter: beginning(4)}.bytes()
	if got, err := parse(packet); err != nil || got.from != 1 || got.to != 2 || got.tag != 3 {
		t.Errorf("%v, %v", got, err)
	}
	packet[0]++
	if _, err := parse(packet); err == nil {
		t.Error("a changed packet has been taken")
	}
}
