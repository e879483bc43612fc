#include <time.h>
#include <unistd.h>

#include "deadline.h"

static long long started;

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

void deadline_start(void)
{
	started = now();
	alarm(TIMEOUT_MS / 1000 + 10);
}

int deadline_left(void)
{
	long long left = started + TIMEOUT_MS - now();

	return left > 0 ? left : 0;
}

long long call_started(void)
{
	return started;
}
