/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Data over SCTP, for kernels that have it: Node.js has no such sockets.
 *
 *   sctp serve PORT              says "ready"; answers each association with what it has received
 *   sctp send HOST PORT BYTES    sends BYTES and prints {"bytes", "whole", "address", "port"}: what the
 *                                server received, whether it is what was sent, and whom the server saw
 *
 * A message is 1 to 1,500 bytes, so that the kernel bundles many in a packet where it may, and cuts some.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MESSAGE_MAX 1500

struct receipt {
	uint64_t bytes;
	uint64_t hash;
	uint16_t port; /* host order */
	char address[INET6_ADDRSTRLEN];
};

/* FNV-1a. */
static uint64_t hashed(uint64_t hash, const uint8_t *data, size_t length)
{
	while (length--)
		hash = (hash ^ *data++) * 0x100000001b3;
	return hash;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static ssize_t receive_all(int fd, void *to, size_t length)
{
	size_t got = 0;
	ssize_t more;

	while (got < length) {
		more = recv(fd, (char *)to + got, length - got, 0);
		if (more <= 0)
			return -1;
		got += more;
	}
	return got;
}

static void answer(int fd)
{
	struct sockaddr_in6 client;
	socklen_t size = sizeof(client);
	struct receipt receipt = { .hash = 0xcbf29ce484222325 };
	static uint8_t data[65536];
	uint64_t total;
	ssize_t length;

	if (receive_all(fd, &total, sizeof(total)) < 0 ||
	    getpeername(fd, (struct sockaddr *)&client, &size))
		return;
	while (receipt.bytes < total && (length = recv(fd, data, sizeof(data), 0)) > 0) {
		receipt.hash = hashed(receipt.hash, data, length);
		receipt.bytes += length;
	}
	receipt.port = ntohs(client.sin6_port);
	inet_ntop(AF_INET6, &client.sin6_addr, receipt.address, sizeof(receipt.address));
	send(fd, &receipt, sizeof(receipt), MSG_NOSIGNAL);
	/* Until the client has ended the association. */
	while (recv(fd, data, sizeof(data), 0) > 0)
		;
}

static int serve(uint16_t port)
{
	struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int listener = socket(AF_INET6, SOCK_STREAM, IPPROTO_SCTP), fd;

	if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof(own)) ||
	    listen(listener, 8))
		fail("Cannot serve SCTP");
	puts("ready");
	fflush(stdout);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		answer(fd);
		close(fd);
	}
	return 1;
}

static int send_all(const char *host, const char *port, uint64_t bytes)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
	uint64_t hash = 0xcbf29ce484222325, sent = 0;
	struct timeval patience = { .tv_sec = 60 };
	uint8_t message[MESSAGE_MAX];
	struct receipt receipt;
	uint32_t seed = 1;
	const char *address;
	size_t length, i;
	int fd;

	if (getaddrinfo(host, port, &hints, &found))
		return 2;
	fd = socket(found->ai_family, SOCK_STREAM, IPPROTO_SCTP);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen))
		fail("Cannot connect over SCTP");
	if (send(fd, &bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
		fail("Cannot send over SCTP");
	while (sent < bytes) {
		seed = seed * 1664525 + 1013904223;
		length = 1 + (seed >> 8) % MESSAGE_MAX;
		if (length > bytes - sent)
			length = bytes - sent;
		for (i = 0; i < length; i++)
			message[i] = (seed >> (i % 24)) + i;
		if (send(fd, message, length, MSG_NOSIGNAL) != (ssize_t)length)
			fail("Cannot send over SCTP");
		hash = hashed(hash, message, length);
		sent += length;
	}
	if (receive_all(fd, &receipt, sizeof(receipt)) < 0)
		fail("Cannot receive over SCTP");
	close(fd);
	/* The server's socket is one for both families. */
	address = strncmp(receipt.address, "::ffff:", 7) ? receipt.address : receipt.address + 7;
	printf("{\"bytes\": %llu, \"whole\": %s, \"address\": \"%s\", \"port\": %u}\n",
	       (unsigned long long)receipt.bytes,
	       receipt.bytes == bytes && receipt.hash == hash ? "true" : "false", address,
	       receipt.port);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "send"))
		return send_all(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	return 2;
}
