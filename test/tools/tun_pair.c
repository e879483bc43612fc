/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A VPN's tun devices without the VPN: packets that one namespace sends into its device come out of the
 * other's, unchanged. Says "ready" once both are there, and ends with its standard input.
 *
 *   tun_pair NAMESPACE_PATH DEVICE NAMESPACE_PATH DEVICE
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int make(const char *path, const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int space = open(path, O_RDONLY | O_CLOEXEC), tun;

	if (space < 0 || setns(space, CLONE_NEWNET)) {
		perror(path);
		exit(1);
	}
	close(space);
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request)) {
		perror(name);
		exit(1);
	}
	return tun;
}

int main(int argc, char **argv)
{
	static char packet[65536];
	struct pollfd ends[3] = { { .fd = STDIN_FILENO, .events = POLLIN } };
	ssize_t length;
	int i;

	if (argc != 5)
		return 2;
	for (i = 0; i < 2; i++) {
		ends[1 + i].fd = make(argv[1 + 2 * i], argv[2 + 2 * i]);
		ends[1 + i].events = POLLIN;
	}
	puts("ready");
	fflush(stdout);
	while (poll(ends, 3, -1) > 0) {
		if (ends[0].revents)
			return 0;
		for (i = 1; i < 3; i++) {
			if (!(ends[i].revents & POLLIN))
				continue;
			length = read(ends[i].fd, packet, sizeof(packet));
			/* What the other device cannot take, is down for example, is lost. */
			if (length > 0 && write(ends[3 - i].fd, packet, length) < 0)
				continue;
		}
	}
	return 1;
}
