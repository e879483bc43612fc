/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The traffic of one machine: probes, floods of short connections, and connections that are held, by
 * thousands, which a station (src/lab/station.ts) is too slow for.
 *
 *   traffic PORT...   serves TCP and UDP on each of these ports; says "ready", ends with its standard input
 *
 * Orders, each a line of standard input. HOST is IPv6 or IPv4 mapped into it; "tcp", "udp" or "icmp" before it.
 *
 *   probe ID PROTOCOL HOST PORT                says "yes ID" or "refused ID" as soon as it knows
 *   end                                        forgets all probes: "ended"
 *   flood ID PROTOCOL HOST PORT RATE WAIT_MS   RATE connections a second, each for one byte and its echo
 *   hold ID PROTOCOL HOST PORT COUNT EVERY_MS  connections on which both sides send that often
 *   report ID, stop ID                         a line of JSON
 *   quiet                                      the UDP server stops sending back: "quiet"
 *   seen                                       JSON: what the servers received, by source and port
 *
 * Times are milliseconds of the monotonic clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum kind {
	ORDERS,
	LISTENER,
	UDP_SERVER,
	SERVED,
	PROBE,
	BRIEF,
	HELD
};
enum {
	TCP = IPPROTO_TCP,
	UDP = IPPROTO_UDP,
	ICMP = IPPROTO_ICMP
};

/* The first byte of a message: echo it, or send back on your own from now on. */
#define ECHO_ONCE 'e'
#define SEND_BACK 's'
#define SEND_BACK_MS 50
#define RETRY_MS 100

struct group {
	struct group *next;
	enum kind kind;
	int id, protocol;
	struct sockaddr_in6 to;
	double due, rate, wait_ms, every_ms;
	long begun, sent, answered, late, refused, unanswered, arrivals;
	struct socket_state *first, *last;
};

struct socket_state {
	enum kind kind;
	int fd, protocol, id;
	bool is_up, sends_back, is_closed;
	struct group *group;
	struct socket_state *before, *after;
	/* A server's: the client. */
	struct sockaddr_in6 peer;
	int port;
	double begun, arrived, due;
};

/* What one source has sent to one port. */
struct source {
	int protocol, port;
	struct in6_addr address;
	long messages, connections;
	double first, last;
};

struct udp_peer {
	struct sockaddr_in6 to;
	int fd;
	double due;
};

static int events_fd;
static struct group *groups;
static struct group probes = { .kind = PROBE };
static struct group served = { .kind = SERVED };
static struct socket_state *graveyard[4096];
static int buried;
static struct source sources[1024];
static int source_count;
static struct udp_peer udp_peers[4096];
static int udp_peer_count;
static char buffer[65536];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void fatal(const char *what)
{
	perror(what);
	exit(1);
}

static struct socket_state *watch(enum kind kind, int fd, int protocol, struct group *group,
				  unsigned int events)
{
	struct socket_state *s = calloc(1, sizeof(*s));
	struct epoll_event event = { .events = events, .data.ptr = s };

	*s = (struct socket_state){ .kind = kind, .fd = fd, .protocol = protocol, .group = group };
	s->begun = s->arrived = now();
	if (group) {
		s->before = group->last;
		*(group->last ? &group->last->after : &group->first) = s;
		group->last = s;
	}
	if (epoll_ctl(events_fd, EPOLL_CTL_ADD, fd, &event))
		fatal("epoll");
	return s;
}

/* Events that have been fetched may still name it: it is freed later. */
static void finish(struct socket_state *s)
{
	struct linger at_once = { .l_onoff = 1 };
	struct group *g = s->group;

	if (s->is_closed)
		return;
	if (s->protocol == TCP)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(s->fd);
	if (g) {
		*(s->before ? &s->before->after : &g->first) = s->after;
		*(s->after ? &s->after->before : &g->last) = s->before;
	}
	s->is_closed = true;
	if (buried < 4096)
		graveyard[buried++] = s;
}

static struct source *source_of(int protocol, int port, const struct in6_addr *address)
{
	for (int i = 0; i < source_count; i++) {
		struct source *one = &sources[i];

		if (one->protocol == protocol && one->port == port &&
		    !memcmp(&one->address, address, sizeof(*address)))
			return one;
	}
	if (source_count == 1024)
		fatal("too many sources");
	sources[source_count] = (struct source){
		.protocol = protocol, .port = port, .address = *address, .first = now()
	};
	return &sources[source_count++];
}

static void count_message(int protocol, int port, const struct in6_addr *address)
{
	struct source *from = source_of(protocol, port, address);

	from->messages++;
	from->last = now();
}

/* Servers */

static void serve(int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int tcp = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int udp = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	int on = 1, size = 8 << 20;

	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(tcp, (void *)&any, sizeof(any)) || listen(tcp, 4096) ||
	    bind(udp, (void *)&any, sizeof(any)))
		fatal("serve");
	watch(LISTENER, tcp, TCP, NULL, EPOLLIN)->port = port;
	watch(UDP_SERVER, udp, UDP, NULL, EPOLLIN)->port = port;
}

static void accept_all(struct socket_state *listener)
{
	struct sockaddr_in6 from;
	socklen_t length = sizeof(from);
	struct socket_state *s;
	int fd;

	while ((fd = accept4(listener->fd, (void *)&from, &length, SOCK_NONBLOCK)) >= 0) {
		s = watch(SERVED, fd, TCP, &served, EPOLLIN);
		s->peer = from;
		s->port = listener->port;
		source_of(TCP, s->port, &from.sin6_addr)->connections++;
	}
}

static void serve_tcp(struct socket_state *s)
{
	ssize_t bytes = recv(s->fd, buffer, sizeof(buffer), 0);

	if (bytes < 0 && errno == EAGAIN)
		return;
	if (bytes <= 0)
		return finish(s);
	count_message(TCP, s->port, &s->peer.sin6_addr);
	if (buffer[0] == SEND_BACK)
		s->sends_back = true;
	else
		send(s->fd, buffer, 1, MSG_NOSIGNAL);
}

static void serve_udp(struct socket_state *s)
{
	struct sockaddr_in6 from;
	socklen_t length = sizeof(from);
	ssize_t bytes;
	int i;

	while ((bytes = recvfrom(s->fd, buffer, sizeof(buffer), 0, (void *)&from, &length)) > 0) {
		count_message(UDP, s->port, &from.sin6_addr);
		if (buffer[0] != SEND_BACK) {
			sendto(s->fd, buffer, bytes, 0, (void *)&from, length);
			continue;
		}
		for (i = 0; i < udp_peer_count; i++)
			if (!memcmp(&udp_peers[i].to, &from, sizeof(from)))
				break;
		if (i == udp_peer_count && i < 4096)
			udp_peers[udp_peer_count++] = (struct udp_peer){ .to = from, .fd = s->fd };
	}
}

/* Clients */

static int open_socket(int protocol, const struct sockaddr_in6 *to)
{
	bool is_v4 = IN6_IS_ADDR_V4MAPPED(&to->sin6_addr);
	struct sockaddr_in plain = { .sin_family = AF_INET };
	int fd;

	if (protocol == ICMP && is_v4) {
		memcpy(&plain.sin_addr, &to->sin6_addr.s6_addr[12], 4);
		fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);
		connect(fd, (void *)&plain, sizeof(plain));
		return fd;
	}
	fd = protocol == ICMP  ? socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6)
	     : protocol == TCP ? socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0)
			       : socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0)
		fatal("socket");
	connect(fd, (void *)to, sizeof(*to));
	return fd;
}

static void ping(struct socket_state *s)
{
	struct icmphdr four = { .type = ICMP_ECHO, .un.echo.id = htons(s->id) };
	struct icmp6_hdr six = { .icmp6_type = ICMP6_ECHO_REQUEST };
	unsigned int sum;

	if (IN6_IS_ADDR_V4MAPPED(&s->peer.sin6_addr)) {
		sum = ICMP_ECHO + four.un.echo.id;
		four.checksum = ~((sum & 0xffff) + (sum >> 16));
		send(s->fd, &four, sizeof(four), 0);
	} else {
		six.icmp6_id = htons(s->id);
		send(s->fd, &six, sizeof(six), 0);
	}
}

static bool is_pong(const struct socket_state *s, const char *packet, ssize_t bytes)
{
	bool is_v4 = IN6_IS_ADDR_V4MAPPED(&s->peer.sin6_addr);
	const char *icmp = is_v4 ? packet + (packet[0] & 15) * 4 : packet;
	unsigned short id;

	if (icmp + 8 > packet + bytes ||
	    icmp[0] != (is_v4 ? ICMP_ECHOREPLY : (char)ICMP6_ECHO_REPLY))
		return false;
	memcpy(&id, icmp + 4, 2);
	return ntohs(id) == (s->id & 0xffff);
}

static void ask(struct socket_state *s)
{
	char message[64] = { s->kind == HELD ? SEND_BACK : ECHO_ONCE };

	if (s->protocol == ICMP)
		ping(s);
	else if (send(s->fd, message, s->kind == HELD ? sizeof(message) : 1, MSG_NOSIGNAL) > 0)
		s->group->sent++;
}

static struct socket_state *begin(struct group *g, int protocol, const struct sockaddr_in6 *to,
				  int id)
{
	unsigned int events = EPOLLIN | (protocol == TCP ? EPOLLOUT : 0);
	struct socket_state *s = watch(g->kind, open_socket(protocol, to), protocol, g, events);

	s->peer = *to;
	s->id = id;
	s->due = s->begun + (g->kind == HELD ? g->every_ms : RETRY_MS);
	g->begun++;
	s->is_up = protocol != TCP;
	if (s->is_up)
		ask(s);
	return s;
}

static bool was_retransmitted(const struct socket_state *s)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	return s->protocol == TCP && !getsockopt(s->fd, SOL_TCP, TCP_INFO, &info, &length) &&
	       info.tcpi_total_retrans > 0;
}

static void hear(struct socket_state *s, unsigned int events)
{
	struct epoll_event readable = { .events = EPOLLIN, .data.ptr = s };
	struct group *g = s->group;
	double at = now();
	ssize_t bytes;

	if (events & (EPOLLERR | EPOLLHUP)) {
		g->refused++;
		if (s->kind == PROBE)
			printf("refused %d\n", s->id);
		return finish(s);
	}
	if (!s->is_up && events & EPOLLOUT) {
		s->is_up = true;
		epoll_ctl(events_fd, EPOLL_CTL_MOD, s->fd, &readable);
		ask(s);
	}
	if (!(events & EPOLLIN))
		return;
	bytes = recv(s->fd, buffer, sizeof(buffer), 0);
	if (bytes < 0 && errno == EAGAIN)
		return;
	if (s->protocol == ICMP && !is_pong(s, buffer, bytes))
		return;
	if (s->kind == HELD && bytes > 0) {
		g->arrivals++;
		s->arrived = at;
		return;
	}
	if (bytes <= 0)
		g->refused++;
	else
		g->answered++;
	if (was_retransmitted(s))
		g->late++;
	if (s->kind == PROBE)
		printf("%s %d\n", bytes > 0 ? "yes" : "refused", s->id);
	finish(s);
}

/* The oldest come first. An answer may be there that has not been read yet. */
static void give_up_old(struct group *g, double at)
{
	while (g->first && at - g->first->begun > g->wait_ms) {
		struct socket_state *s = g->first;
		struct pollfd waiting = { .fd = s->fd, .events = POLLIN };

		if (poll(&waiting, 1, 0) > 0)
			hear(s, waiting.revents);
		if (s->is_closed)
			continue;
		g->unanswered++;
		finish(s);
	}
}

static void tick(void)
{
	double at = now();

	for (struct socket_state *s = probes.first; s; s = s->after)
		if (s->protocol != TCP && at >= s->due) {
			ask(s);
			s->due = at + RETRY_MS;
		}
	for (struct socket_state *s = served.first; s; s = s->after)
		if (s->sends_back && at >= s->due) {
			send(s->fd, buffer, 64, MSG_NOSIGNAL);
			s->due = at + SEND_BACK_MS;
		}
	for (int i = 0; i < udp_peer_count; i++)
		if (at >= udp_peers[i].due) {
			sendto(udp_peers[i].fd, buffer, 64, 0, (void *)&udp_peers[i].to,
			       sizeof(udp_peers[i].to));
			udp_peers[i].due = at + SEND_BACK_MS;
		}
	for (struct group *g = groups; g; g = g->next) {
		if (g->kind == HELD)
			for (struct socket_state *s = g->first; s; s = s->after)
				if (s->is_up && at >= s->due) {
					ask(s);
					s->due = at + g->every_ms;
				}
		if (g->kind != BRIEF)
			continue;
		give_up_old(g, at);
		/* What is not begun in time never is: a burst would fill queues, and queues lose packets. */
		for (int i = 0; i < 32 && at >= g->due; i++, g->due += 1e3 / g->rate)
			begin(g, g->protocol, &g->to, 0);
		if (at > g->due)
			g->due = at;
	}
}

/* Orders */

static struct group *group_of(int id)
{
	for (struct group *g = groups; g; g = g->next)
		if (g->id == id)
			return g;
	fatal("no such group");
	return NULL;
}

static void report(const struct group *g)
{
	double oldest = 0, newest = 0;
	long open = 0;

	for (const struct socket_state *s = g->first; s; s = s->after, open++) {
		oldest = !open || s->arrived < oldest ? s->arrived : oldest;
		newest = s->arrived > newest ? s->arrived : newest;
	}
	printf("{\"begun\":%ld,\"sent\":%ld,\"answered\":%ld,\"late\":%ld,\"refused\":%ld,"
	       "\"unanswered\":%ld,\"open\":%ld,\"arrivals\":%ld,"
	       "\"oldestMs\":%.1f,\"newestMs\":%.1f}\n",
	       g->begun, g->sent, g->answered, g->late, g->refused, g->unanswered, open,
	       g->arrivals, oldest, newest);
}

static void report_sources(void)
{
	char text[INET6_ADDRSTRLEN];

	printf("[");
	for (int i = 0; i < source_count; i++) {
		const struct source *one = &sources[i];

		inet_ntop(AF_INET6, &one->address, text, sizeof(text));
		printf("%s{\"protocol\":\"%s\",\"port\":%d,\"address\":\"%s\",\"messages\":%ld,"
		       "\"connections\":%ld,\"firstMs\":%.1f,\"lastMs\":%.1f}",
		       i ? "," : "", one->protocol == TCP ? "tcp" : "udp", one->port,
		       strncmp(text, "::ffff:", 7) ? text : text + 7, one->messages,
		       one->connections, one->first, one->last);
	}
	printf("]\n");
}

static void obey(char *line)
{
	char name[16] = "", protocol[8] = "", host[64] = "";
	int id = 0, port = 0;
	double a = 0, b = 0;
	struct group *g, **at;
	int count = sscanf(line, "%15s %d %7s %63s %d %lf %lf", name, &id, protocol, host, &port,
			   &a, &b);
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int number = *protocol == 't' ? TCP : *protocol == 'u' ? UDP : ICMP;

	if (count >= 5 && inet_pton(AF_INET6, host, &to.sin6_addr) != 1)
		fatal(line);
	/* A raw socket's port is its protocol. */
	if (number == ICMP)
		to.sin6_port = 0;
	if (!strcmp(name, "probe") && count == 5) {
		begin(&probes, number, &to, id);
	} else if (!strcmp(name, "end")) {
		while (probes.first)
			finish(probes.first);
		puts("ended");
	} else if ((!strcmp(name, "flood") || !strcmp(name, "hold")) && count == 7) {
		g = calloc(1, sizeof(*g));
		*g = (struct group){ .next = groups, .id = id, .protocol = number, .to = to };
		groups = g;
		g->due = now();
		g->kind = *name == 'f' ? BRIEF : HELD;
		g->rate = a;
		g->wait_ms = g->every_ms = b;
		for (int i = 0; g->kind == HELD && i < a; i++)
			begin(g, number, &to, 0);
	} else if (!strcmp(name, "report") && count == 2) {
		report(group_of(id));
	} else if (!strcmp(name, "stop") && count == 2) {
		g = group_of(id);
		report(g);
		while (g->first)
			finish(g->first);
		for (at = &groups; *at != g; at = &(*at)->next)
			;
		*at = g->next;
		free(g);
	} else if (!strcmp(name, "quiet")) {
		udp_peer_count = 0;
		puts("quiet");
	} else if (!strcmp(name, "seen")) {
		report_sources();
	} else {
		errno = EINVAL;
		fatal(line);
	}
}

static void take_orders(void)
{
	static char lines[1 << 20];
	static size_t length;
	ssize_t bytes = read(0, lines + length, sizeof(lines) - length - 1);
	char *line = lines, *end;

	if (bytes <= 0)
		exit(0);
	length += bytes;
	lines[length] = 0;
	for (; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		obey(line);
	}
	length -= line - lines;
	memmove(lines, line, length);
}

int main(int argc, char **argv)
{
	struct rlimit files = { 1 << 18, 1 << 18 };
	struct epoll_event ready[512];

	setrlimit(RLIMIT_NOFILE, &files);
	events_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(ORDERS, 0, 0, NULL, EPOLLIN);
	for (int i = 1; i < argc; i++)
		serve(atoi(argv[i]));
	puts("ready");
	for (;;) {
		bool is_idle = !groups && !probes.first && !served.first && !udp_peer_count;
		int count;

		fflush(stdout);
		count = epoll_wait(events_fd, ready, 512, is_idle ? -1 : 2);
		for (int i = 0; i < count; i++) {
			struct socket_state *s = ready[i].data.ptr;

			if (s->is_closed)
				continue;
			if (s->kind == ORDERS)
				take_orders();
			else if (s->kind == LISTENER)
				accept_all(s);
			else if (s->kind == UDP_SERVER)
				serve_udp(s);
			else if (s->kind == SERVED)
				serve_tcp(s);
			else
				hear(s, ready[i].events);
		}
		tick();
		while (buried > 0)
			free(graveyard[--buried]);
	}
}
