/* The time that one call may take. */
#pragma once

/* Longer than any ADD, shorter than the time-outs of runtimes (kubelet: 4 minutes). */
#ifndef TIMEOUT_MS
#define TIMEOUT_MS 60000
#endif

/* Starts the clock; ends the process if it is stuck in the kernel long after the deadline. */
void deadline_start(void);

/* Milliseconds that are left, 0 if there are none: for poll(2). */
int deadline_left(void);

/* CLOCK_MONOTONIC at the start of this call, in milliseconds. */
long long call_started(void);
