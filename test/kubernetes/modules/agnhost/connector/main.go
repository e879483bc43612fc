// Command connector makes the connections of one probe from inside a Pod, all at once, and prints what came of
// them: the words of cyclonus' own worker, which starts a process of agnhost for each connection instead. A
// connection succeeds where `agnhost connect` does: TCP or SCTP is established, a UDP datagram is answered.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fairway.test/agnhost/sctp"
)

type request struct {
	Key, Protocol, Host string
	Port                int
}

type result struct {
	Request       request
	Output, Error string
}

func main() {
	jobs := flag.String("jobs", "", `{"Requests": [{"Key", "Protocol", "Host", "Port"}]}`)
	timeout := flag.Duration("timeout", 1500*time.Millisecond, "of a connection, once its name is resolved")
	flag.Parse()
	var batch struct{ Requests []request }
	if err := json.Unmarshal([]byte(*jobs), &batch); err != nil {
		fmt.Fprintf(os.Stderr, "Cannot read the connections: %v\n", err)
		os.Exit(2)
	}
	addresses := resolve(batch.Requests)
	results := make([]result, len(batch.Requests))
	var all sync.WaitGroup
	for at, wanted := range batch.Requests {
		all.Go(func() {
			results[at].Request = wanted
			if err := connect(wanted, addresses[wanted.Host], *timeout); err != nil {
				results[at].Error = err.Error()
			}
		})
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		os.Exit(1)
	}
}

// resolve asks for each name once; names without an address are absent.
func resolve(requests []request) map[string]string {
	addresses := map[string]string{}
	var lock sync.Mutex
	var all sync.WaitGroup
	asked := map[string]bool{}
	for _, wanted := range requests {
		host := wanted.Host
		if asked[host] {
			continue
		}
		asked[host] = true
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			found, err := net.DefaultResolver.LookupHost(ctx, host)
			if err == nil && len(found) > 0 {
				lock.Lock()
				defer lock.Unlock()
				addresses[host] = found[0]
			}
		})
	}
	all.Wait()
	return addresses
}

func connect(wanted request, address string, timeout time.Duration) error {
	if address == "" {
		return errors.New("the name has no address")
	}
	protocol := strings.ToLower(wanted.Protocol)
	switch protocol {
	case "tcp", "udp":
	case "sctp":
		return sctp.Connect(net.ParseIP(address), uint16(wanted.Port), timeout)
	default:
		return fmt.Errorf("Cannot connect: expected TCP, UDP or SCTP, got %s", wanted.Protocol)
	}
	target := net.JoinHostPort(address, strconv.Itoa(wanted.Port))
	connection, err := net.DialTimeout(protocol, target, timeout)
	if err != nil {
		return err
	}
	defer connection.Close()
	if protocol == "tcp" {
		return nil
	}
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte("hello\n")); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 1024))
	return err
}
