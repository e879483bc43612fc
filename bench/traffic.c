// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Socket traffic with minimal overhead, one thread on each side.
 *
 *   traffic serve PORT                                 until standard input ends
 *   traffic stream ADDRESS PORT SECONDS CONNECTIONS    TCP at full speed
 *   traffic exchange ADDRESS PORT SECONDS BYTES        request and response, one after another
 *   traffic connect ADDRESS PORT SECONDS BYTES         the same, with a connection for each
 *   traffic datagrams ADDRESS PORT SECONDS BYTES RATE  UDP, RATE a second
 *
 * The client prints a line of JSON when it ends, the server one for each line on its standard input:
 * CPU time of the process in ns, and the counts since the last line. The first byte of a connection
 * names its purpose.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define CONNECTIONS_MAX 4096
#define SLOT_NS 100 /* of the histogram of times */
#define SLOTS 1000000

enum purpose {
	STREAM = 'S',
	ECHO = 'E',
	ECHO_ONCE = 'O'
};

static char buffer[CHUNK];
static uint32_t times[SLOTS];

static void fail(const char *act)
{
	fprintf(stderr, "traffic: Cannot %s: %s\n", act, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static struct sockaddr_in6 target;
static socklen_t target_length;

/* IPv4 as ::ffff:a.b.c.d: the same code for both families, and IPv4 on the wire. */
static void set_target(const char *address, const char *port)
{
	char mapped[64];

	snprintf(mapped, sizeof(mapped), "%s%s", strchr(address, ':') ? "" : "::ffff:", address);
	target.sin6_family = AF_INET6;
	target.sin6_port = htons(atoi(port));
	target_length = sizeof(target);
	if (inet_pton(AF_INET6, mapped, &target.sin6_addr) != 1)
		fail("read the address");
}

static int connection(enum purpose purpose)
{
	int one = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);
	char first = purpose;

	if (fd < 0 || connect(fd, (struct sockaddr *)&target, target_length))
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (purpose != ECHO_ONCE && send(fd, &first, 1, 0) != 1)
		fail("send");
	return fd;
}

static size_t read_all(int fd, size_t length)
{
	size_t got = 0;

	while (got < length) {
		ssize_t n = recv(fd, buffer + got, length - got, 0);

		if (n <= 0)
			break;
		got += n;
	}
	return got;
}

/* ------------------------------------------------------------ clients */

static uint64_t stream(uint64_t end, int connections)
{
	struct epoll_event event, events[64];
	int poll = epoll_create1(0), fds[64];
	uint64_t bytes = 0;

	if (connections < 1 || connections > 64) {
		errno = ERANGE;
		fail("open the connections");
	}
	for (int i = 0; i < connections; i++) {
		fds[i] = connection(STREAM);
		event.events = EPOLLOUT;
		event.data.fd = fds[i];
		epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event);
	}
	while (now() < end) {
		int ready = epoll_wait(poll, events, 64, 100);

		for (int i = 0; i < ready; i++) {
			ssize_t n = send(events[i].data.fd, buffer, CHUNK, MSG_DONTWAIT);

			if (n > 0)
				bytes += n;
			else if (errno != EAGAIN)
				fail("send");
		}
	}
	for (int i = 0; i < connections; i++)
		close(fds[i]);
	return bytes;
}

static void remember(uint64_t time)
{
	uint64_t slot = time / SLOT_NS;

	times[slot < SLOTS ? slot : SLOTS - 1]++;
}

static double percentile(uint64_t count, double share)
{
	uint64_t seen = 0;
	int slot = 0;

	while (slot < SLOTS - 1 && (seen += times[slot]) < count * share)
		slot++;
	return (slot + 0.5) * SLOT_NS / 1000;
}

static uint64_t exchange(uint64_t end, size_t bytes)
{
	uint64_t count = 0, begun = now();
	int fd = connection(ECHO);

	for (; begun < end; count++) {
		uint64_t done;

		if (send(fd, buffer, bytes, 0) != (ssize_t)bytes || read_all(fd, bytes) != bytes)
			fail("exchange");
		done = now();
		remember(done - begun);
		begun = done;
	}
	return count;
}

static uint64_t connect_each(uint64_t end, size_t bytes)
{
	uint64_t count = 0, begun = now();

	buffer[0] = ECHO_ONCE;
	for (; begun < end; count++) {
		int fd = connection(ECHO_ONCE);
		uint64_t done;

		/* The server closes first, so that TIME_WAIT is on its side. */
		if (send(fd, buffer, bytes, 0) != (ssize_t)bytes ||
		    read_all(fd, sizeof(buffer)) != bytes)
			fail("exchange");
		close(fd);
		done = now();
		remember(done - begun);
		begun = done;
	}
	return count;
}

static uint64_t datagrams(uint64_t end, size_t bytes, double rate)
{
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	uint64_t begun = now(), time, sent = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&target, target_length))
		fail("connect");
	while ((time = now()) < end) {
		struct timespec pause = { .tv_nsec = 200000 };

		for (uint64_t due = (time - begun) * rate / 1e9; sent < due; sent++)
			if (send(fd, buffer, bytes, 0) < 0 && errno != ENOBUFS)
				fail("send");
		nanosleep(&pause, NULL);
	}
	return sent;
}

/* ------------------------------------------------------------ server */

static int listener(int type, int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, room = 8 << 20, fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (type == SOCK_DGRAM)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) ||
	    (type == SOCK_STREAM && listen(fd, 1024)))
		fail("listen");
	return fd;
}

static void serve(int port)
{
	static char purposes[CONNECTIONS_MAX];
	struct epoll_event event = { .events = EPOLLIN }, events[64];
	int tcp = listener(SOCK_STREAM, port), udp = listener(SOCK_DGRAM, port), one = 1;
	int sources[] = { 0, tcp, udp }, poll = epoll_create1(0);
	uint64_t bytes = 0, packets = 0;

	for (int i = 0; i < 3; i++) {
		event.data.fd = sources[i];
		epoll_ctl(poll, EPOLL_CTL_ADD, sources[i], &event);
	}
	printf("{}\n");
	fflush(stdout);
	for (;;) {
		int ready = epoll_wait(poll, events, 64, -1);

		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;
			char *content = buffer;
			ssize_t n;

			if (fd == 0) {
				if (read(0, buffer, CHUNK) <= 0)
					return;
				printf("{\"cpu\":%lu,\"bytes\":%lu,\"datagrams\":%lu}\n",
				       cpu_time(), bytes, packets);
				fflush(stdout);
				bytes = packets = 0;
			} else if (fd == tcp) {
				fd = accept4(tcp, NULL, NULL, SOCK_NONBLOCK);
				if (fd < 0 || fd >= CONNECTIONS_MAX) {
					close(fd);
					continue;
				}
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				purposes[fd] = 0;
				event.data.fd = fd;
				epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
			} else if (fd == udp) {
				while (recv(udp, buffer, CHUNK, 0) >= 0)
					packets++;
			} else {
				n = recv(fd, buffer, CHUNK, 0);
				if (n <= 0) {
					if (n == 0 || errno != EAGAIN)
						close(fd);
					continue;
				}
				bytes += n;
				if (!purposes[fd]) {
					purposes[fd] = buffer[0];
					/* For a single exchange, it is part of the request. */
					if (purposes[fd] != ECHO_ONCE) {
						content++;
						n--;
					}
				}
				if (purposes[fd] != STREAM && n > 0 &&
				    send(fd, content, n, MSG_NOSIGNAL) != n)
					close(fd);
				else if (purposes[fd] == ECHO_ONCE)
					close(fd);
			}
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t begun, end, count;
	const char *what = argc > 1 ? argv[1] : "";
	size_t number;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(what, "serve")) {
		serve(atoi(argv[2]));
		return 0;
	}
	if (argc < 6) {
		fprintf(stderr, "traffic: Cannot start: expected serve, stream, exchange, connect "
				"or datagrams with their arguments\n");
		return 2;
	}
	set_target(argv[2], argv[3]);
	number = atoi(argv[5]);
	if (number > CHUNK)
		number = CHUNK;
	begun = now();
	end = begun + atof(argv[4]) * 1e9;
	if (!strcmp(what, "stream"))
		count = stream(end, number);
	else if (!strcmp(what, "exchange"))
		count = exchange(end, number);
	else if (!strcmp(what, "connect"))
		count = connect_each(end, number);
	else
		count = datagrams(end, number, argc > 6 ? atof(argv[6]) : 1000);
	printf("{\"count\":%lu,\"elapsed\":%lu,\"cpu\":%lu,\"p50\":%.1f,\"p99\":%.1f}\n", count,
	       now() - begun, cpu_time(), percentile(count, 0.5), percentile(count, 0.99));
	return 0;
}
