// Package sctp opens and accepts associations of SCTP (RFC 9260) on raw sockets, where the kernel has no SCTP:
// the four messages of the handshake, and an abort. No data. Network policies and Services treat the packets like
// those of any other implementation.
package sctp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"syscall"
	"time"
)

// Chunk types.
const (
	chunkInit       = 1
	chunkInitAck    = 2
	chunkAbort      = 6
	chunkCookieEcho = 10
	chunkCookieAck  = 11
)

const (
	headerBytes = 12
	// A message that is lost is sent again.
	retryAfter = 700 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// KernelHas says whether the kernel has SCTP, whose own sockets do better.
func KernelHas() bool {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, syscall.IPPROTO_SCTP)
	if err != nil {
		return false
	}
	syscall.Close(socket)
	return true
}

// message is a packet with one chunk.
type message struct {
	from, to  uint16
	tag       uint32
	chunk     byte
	parameter []byte
}

func (m message) bytes() []byte {
	chunk := 4 + len(m.parameter)
	packet := make([]byte, headerBytes+chunk+(-chunk&3))
	binary.BigEndian.PutUint16(packet, m.from)
	binary.BigEndian.PutUint16(packet[2:], m.to)
	binary.BigEndian.PutUint32(packet[4:], m.tag)
	packet[headerBytes] = m.chunk
	binary.BigEndian.PutUint16(packet[headerBytes+2:], uint16(chunk))
	copy(packet[headerBytes+4:], m.parameter)
	binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, castagnoli))
	return packet
}

// parse refuses packets with a wrong checksum.
func parse(packet []byte) (message, error) {
	if len(packet) < headerBytes+4 {
		return message{}, errors.New("the packet is too short")
	}
	sum := binary.LittleEndian.Uint32(packet[8:])
	zeroed := append([]byte(nil), packet...)
	clear(zeroed[8:12])
	if wanted := crc32.Checksum(zeroed, castagnoli); wanted != sum {
		return message{}, fmt.Errorf("Cannot read the packet: expected checksum %x, got %x", wanted, sum)
	}
	chunk := packet[headerBytes:]
	length := int(binary.BigEndian.Uint16(chunk[2:]))
	if length < 4 || length > len(chunk) {
		return message{}, errors.New("the chunk is too short")
	}
	return message{
		from:      binary.BigEndian.Uint16(packet),
		to:        binary.BigEndian.Uint16(packet[2:]),
		tag:       binary.BigEndian.Uint32(packet[4:]),
		chunk:     chunk[0],
		parameter: chunk[4:length],
	}, nil
}

// beginning is what INIT and INIT ACK say: tag, window, streams both ways, first TSN.
func beginning(tag uint32, more ...byte) []byte {
	parameter := make([]byte, 16, 16+len(more))
	binary.BigEndian.PutUint32(parameter, tag)
	binary.BigEndian.PutUint32(parameter[4:], 65536)
	binary.BigEndian.PutUint16(parameter[8:], 1)
	binary.BigEndian.PutUint16(parameter[10:], 1)
	binary.BigEndian.PutUint32(parameter[12:], tag)
	return append(parameter, more...)
}

func random() uint32 {
	var bytes [4]byte
	rand.Read(bytes[:])
	return binary.BigEndian.Uint32(bytes[:]) | 1
}

func family(address net.IP) string {
	if address.To4() != nil {
		return "ip4:132"
	}
	return "ip6:132"
}

// Connect opens an association and aborts it. os.ErrDeadlineExceeded: nobody answered.
func Connect(address net.IP, port uint16, timeout time.Duration) error {
	connection, err := net.Dial(family(address), address.String())
	if err != nil {
		return err
	}
	defer connection.Close()
	ours, local := random(), uint16(32768+random()%28000)
	end := time.Now().Add(timeout)
	send := message{from: local, to: port, chunk: chunkInit, parameter: beginning(ours)}
	packet := make([]byte, 2048)
	for {
		if _, err := connection.Write(send.bytes()); err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
		again := time.Now().Add(retryAfter)
		for {
			until := again
			if end.Before(until) {
				until = end
			}
			if err := connection.SetReadDeadline(until); err != nil {
				return err
			}
			// Read would leave the IPv4 header in front.
			size, _, err := connection.(net.PacketConn).ReadFrom(packet)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			got, err := parse(packet[:size])
			if err != nil || got.from != port || got.to != local || got.tag != ours {
				continue
			}
			switch got.chunk {
			case chunkAbort:
				return syscall.ECONNREFUSED
			case chunkInitAck:
				// The cookie is the only parameter that follows.
				if len(got.parameter) < 20 {
					continue
				}
				theirs := binary.BigEndian.Uint32(got.parameter)
				send = message{from: local, to: port, tag: theirs, chunk: chunkCookieEcho, parameter: got.parameter[20:]}
				again = time.Time{}
			case chunkCookieAck:
				abort := message{from: local, to: port, tag: send.tag, chunk: chunkAbort}
				_, err := connection.Write(abort.bytes())
				return err
			}
			if again.IsZero() {
				break
			}
		}
		if !time.Now().Before(end) {
			return os.ErrDeadlineExceeded
		}
	}
}

// Serve accepts associations on a port of every address, until the context ends.
func Serve(ctx context.Context, port uint16) error {
	failed := make(chan error, 2)
	for _, network := range []string{"ip4:132", "ip6:132"} {
		listener, err := net.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer listener.Close()
		go func() { failed <- answer(listener, port) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func answer(listener net.PacketConn, port uint16) error {
	packet := make([]byte, 2048)
	for {
		size, client, err := listener.ReadFrom(packet)
		if err != nil {
			return err
		}
		got, err := parse(packet[:size])
		if err != nil || got.to != port {
			continue
		}
		reply := message{from: port, to: got.from}
		switch got.chunk {
		case chunkInit:
			if len(got.parameter) < 16 {
				continue
			}
			// Type 7 is the cookie: it has the client's tag, so nothing is remembered here.
			theirs := got.parameter[:4]
			reply.chunk, reply.tag = chunkInitAck, binary.BigEndian.Uint32(theirs)
			reply.parameter = beginning(random(), append([]byte{0, 7, 0, 8}, theirs...)...)
		case chunkCookieEcho:
			if len(got.parameter) != 4 {
				continue
			}
			reply.chunk, reply.tag = chunkCookieAck, binary.BigEndian.Uint32(got.parameter)
		default:
			continue
		}
		// An answer that is lost is asked for again.
		_, _ = listener.WriteTo(reply.bytes(), client)
	}
}
