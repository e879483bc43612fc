/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Elements of hash maps. The kernel gives the element of a key that goes to the next key that comes, at once, also
 * under the eyes of a CPU that has just found it and pauses (a virtual one does so for milliseconds). So what is
 * read of an element counts only under one of two proofs:
 *
 *  unwritten   the agent wrote to no map of this kind between the look-up and the read: element_writes, which it
 *              raises before and after each write, is even and has stayed. One load before and one after.
 *  stays       the key still leads to the element: a second look-up, while the agent writes, for maps that the core
 *              writes itself, and for CPUs that may reorder the agent's writes.
 *
 * Tries, where neither holds: the agent would have to write this very key again meanwhile.
 */
#ifndef FAIRWAY_ELEMENT_H
#define FAIRWAY_ELEMENT_H

#include "flow_claim.h"

#define ELEMENT_TRIES 3

static long read_nothing(__u32 index, void *context)
{
	return 0;
}

/* Tests: the CPU pauses between what it finds and what it reads. */
static __always_inline void reader_pauses(void)
{
	if (slow_reads)
		bpf_loop(slow_reads, read_nothing, NULL, 0);
}

/* An odd number: the agent is writing. */
static __always_inline __u32 agent_writes(void)
{
	__u32 zero = 0, *writes = bpf_map_lookup_elem(&element_writes, &zero);

	return writes ? read_once(*writes) : 1;
}

/* Read before the look-up, for agent_element_stays. */
static __always_inline __u32 agent_writes_before(void)
{
	__u32 before = agent_writes();

	keep_order();
	return before;
}

static __always_inline bool agent_writes_stay(__u32 before)
{
	return !weak_memory_order && !(before & 1) && agent_writes() == before;
}

/* Whether what was read of `found` was the key's. */
#define element_stays(map, key, found)                            \
	({                                                        \
		keep_order();                                     \
		bpf_map_lookup_elem(map, key) == (void *)(found); \
	})

/* The same in a map that only the agent writes. `before`: of agent_writes_before. */
#define agent_element_stays(map, key, found, before)                                           \
	({                                                                                     \
		keep_order();                                                                  \
		agent_writes_stay(before) || bpf_map_lookup_elem(map, key) == (void *)(found); \
	})

#endif
