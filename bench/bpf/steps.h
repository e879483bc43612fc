/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Shared by the programs of `bench/steps.ts`. They call the functions of the fast path itself, one
 * more in each program: the cost of a step is the difference to the program before it.
 *
 * A program file defines FRAME_BYTES, PORTS_AT and REVERSED, replaces the helper that makes or
 * removes room (the measured packet keeps its size), and includes lib/established_*.h after this.
 */
#ifndef FAIRWAY_BENCH_STEPS_H
#define FAIRWAY_BENCH_STEPS_H

#include "../../bpf/tables.bpf.c"
#include "../../bpf/lib/context.h"

/* The first step is NO_STEP + 1. */
#define FAILED (-1)
#define NO_STEP 0

struct bench {
	__u8 frame[FRAME_BYTES]; /* the packet before the program sees it */
	__u32 flows;		 /* that the packets cycle through */
	__u32 next;
	__u32 stride; /* from one packet's flow to the next; coprime to `flows` */
	__u32 pad;
	__u64 drained;
	__u64 found[3]; /* in the home slot, in its neighbour, only through the index */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench);
} bench SEC(".maps");

static __always_inline struct bench *bench_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&bench, &zero);
}

/* Keeps the compiler from removing the computation of a value. */
#define USED(value) asm volatile("" : : "r"(value) : "memory")

/* The program that measures up to `step` ends here and uses `value`. */
#define END_AT(step, value)           \
	do {                          \
		if (last == (step)) { \
			USED(value);  \
			return last;  \
		}                     \
	} while (0)

/*
 * Starts the next packet, of the next flow. The locked addition keeps the CPU from starting this
 * packet before the previous one is complete, and leaves the frame in the cache, as another program
 * or a NIC would.
 */
static __always_inline bool packet_begin(void *data, void *end)
{
	struct bench *state = bench_state();
	__u32 number, source, destination, i;

	if (!state || data + FRAME_BYTES > end)
		return false;
	number = (__u64)state->next++ * state->stride % state->flows;
	source = bpf_htons(1024 + (number & 0x7fff));
	destination = bpf_htons(1024 + (number >> 15));
#pragma unroll
	for (i = 0; i < FRAME_BYTES / 8; i++)
		((__u64 *)data)[i] = ((__u64 *)state->frame)[i];
	*(__u32 *)(data + PORTS_AT) =
		REVERSED ? source << 16 | destination : destination << 16 | source;
	__sync_fetch_and_add(&state->drained, 1);
	return true;
}

#endif
