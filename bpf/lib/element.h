/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Elements of hash maps. The kernel reuses the element of a removed key for the next new key at once, even while
 * another CPU that has just found it pauses (a virtual CPU does so for milliseconds). So a value that is read from an
 * element is valid only under one of two conditions:
 *
 *  unwritten   the agent wrote to no map of this kind between the look-up and the read: element_writes, which it
 *              raises before and after each write, is even and unchanged. One load before and one after.
 *  stays       the key still leads to the element: a second look-up, while the agent writes, for maps that the core
 *              writes itself, and for CPUs that may reorder the agent's writes.
 *
 * The check is repeated where neither holds: the agent would have to write this very key again meanwhile.
 */
#ifndef FAIRWAY_ELEMENT_H
#define FAIRWAY_ELEMENT_H

#include "flow_claim.h"

#define ELEMENT_TRIES 3

/* Tests: the CPU pauses between the look-up and the read. */
static __always_inline void reader_pauses(void)
{
	if (slow_reads)
		bpf_loop(slow_reads, do_nothing, NULL, 0);
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

/* Whether the value read from `found` belonged to the key. */
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
