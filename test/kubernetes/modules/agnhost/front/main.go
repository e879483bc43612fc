// Command front is what the image of agnhost starts as /agnhost. Where the kernel has no SCTP, it opens and accepts
// associations itself for `connect --protocol=sctp` and `porter`; all else is agnhost.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fairway.test/agnhost/sctp"
)

const program = "/agnhost-program"

func main() {
	arguments := os.Args[1:]
	if len(arguments) > 0 && !sctp.KernelHas() {
		if ports := servedPorts(); arguments[0] == "porter" && len(ports) > 0 {
			serve(ports)
			return
		}
		if target, timeout, ok := connects(arguments); ok {
			connect(target, timeout)
			return
		}
	}
	err := syscall.Exec(program, append([]string{os.Args[0]}, arguments...), os.Environ())
	fail("Cannot run %s: %v", program, err)
}

// servedPorts are those of SCTP, as the environment says.
func servedPorts() []uint16 {
	var ports []uint16
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		text, found := strings.CutPrefix(name, "SERVE_SCTP_PORT_")
		if port, err := strconv.ParseUint(text, 10, 16); found && err == nil {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

func serve(ports []uint16) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	for _, port := range ports {
		go func() {
			if err := sctp.Serve(ctx, port); err != nil {
				fail("Cannot serve SCTP port %d: %v", port, err)
			}
		}()
	}
	<-ctx.Done()
}

// connects says whether the arguments are those of a connection by SCTP, and to where.
func connects(arguments []string) (target string, timeout time.Duration, ok bool) {
	timeout = time.Second
	for _, one := range arguments {
		switch {
		case one == "connect":
		case one == "--protocol=sctp":
			ok = true
		case strings.HasPrefix(one, "--timeout="):
			timeout, _ = time.ParseDuration(strings.TrimPrefix(one, "--timeout="))
		default:
			target = one
		}
	}
	return target, timeout, ok && arguments[0] == "connect"
}

// connect says what came of it in agnhost's words.
func connect(target string, timeout time.Duration) {
	address, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		fail("DNS: %v", err)
	}
	err = sctp.Connect(address.IP, uint16(address.Port), timeout)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		fail("TIMEOUT")
	case errors.Is(err, syscall.ECONNREFUSED):
		fail("REFUSED")
	default:
		fail("OTHER: %v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
