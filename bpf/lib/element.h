/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Elements of hash maps. The kernel gives the element of a key that goes to the next key that comes, at once, also
 * under the eyes of a CPU that has just found it and pauses (a virtual one does so for milliseconds). So what is
 * read of an element counts only if the key still leads to it afterwards. Tries, where it has changed: the agent
 * would have to write this very key again meanwhile.
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

/* Whether what was read of `found` was the key's. */
#define element_stays(map, key, found)                            \
	({                                                        \
		keep_order();                                     \
		bpf_map_lookup_elem(map, key) == (void *)(found); \
	})

#endif
