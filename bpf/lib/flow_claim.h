/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Ownership of the slots of `flows`: one word, `claim`, decides what each CPU may do. ARCHITECTURE, "What
 * two CPUs may do to each other", has the whole protocol.
 *
 *  1. read    claim, then the rest, then claim again (flow_still)
 *  2. lock    to write to a published flow; no CPU waits for a lock
 *  3. take    the slot for another flow, with a new generation
 */
#ifndef FAIRWAY_FLOW_CLAIM_H
#define FAIRWAY_FLOW_CLAIM_H

#include "packet.h"

#define read_once(field) (*(const volatile typeof(field) *)&(field))
#define write_once(field, value) (*(volatile typeof(field) *)&(field) = (value))

/* Orders the reads before it with the reads after it, and the writes before it with the writes after it,
 * also for other CPUs. x86 keeps both orders itself, so a compiler barrier is enough; arm64 does not and
 * uses an exchange, the only barrier that BPF has had from the start. */
static __always_inline void keep_order(void)
{
	__u32 word = 0;

	if (weak_memory_order)
		__sync_lock_test_and_set(&word, 1);
	asm volatile("" ::: "memory");
}

static long do_nothing(__u32 index, void *context)
{
	return 0;
}

/* Tests: the CPU pauses while it has a slot locked, as a virtual CPU may at any time. */
static __always_inline void writer_pauses(void)
{
	if (slow_writes)
		bpf_loop(slow_writes, do_nothing, NULL, 0);
}

static __always_inline __u32 claim_generation(__u32 claim)
{
	return (claim & CLAIM_GENERATION) >> 1;
}

/* Stage 1. Without the lock bit, which does not affect the slot's owner. */
static __always_inline __u32 claim_read(const struct flow *flow)
{
	return read_once(flow->claim) & ~CLAIM_LOCKED;
}

/* The slot has a flow, and both of its tuples lead to it. */
static __always_inline bool claim_is_live(__u32 claim)
{
	return (claim & (CLAIM_IN_USE | CLAIM_PUBLISHED)) == (CLAIM_IN_USE | CLAIM_PUBLISHED);
}

/* Stage 2. `claim`: as it was found. False: the slot belongs to another flow by now, or another CPU is
 * writing. */
static __always_inline bool claim_lock(struct flow *flow, __u32 claim)
{
	return !(claim & CLAIM_LOCKED) &&
	       __sync_val_compare_and_swap(&flow->claim, claim, claim | CLAIM_LOCKED) == claim;
}

/* Other CPUs see the writes under the lock before they see it released: the exchange is a barrier. */
static __always_inline void claim_unlock(struct flow *flow, __u32 claim)
{
	__sync_lock_test_and_set(&flow->claim, claim);
}

/* Stage 1, of a flow that may not be published yet. The slot has had the same flow since this claim was read, so what
 * was read meanwhile is of one flow. */
static __always_inline bool claim_stays(const struct flow *flow, __u32 claim)
{
	keep_order();
	return claim_generation(read_once(flow->claim)) == claim_generation(claim);
}

/* Stage 3. The slot's new claim, locked by this CPU; 0: another CPU was first. It is not in use while the tuples of the
 * old flow and the new one are mixed there. */
static __always_inline __u32 claim_take(struct flow *flow, __u32 claim)
{
	__u32 taken = ((claim + 2) & CLAIM_GENERATION) | CLAIM_LOCKED;

	if (claim & CLAIM_LOCKED ||
	    __sync_val_compare_and_swap(&flow->claim, claim, taken) != claim)
		return 0;
	return taken;
}

/* Stage 3. The new flow's tuples are written. Returns the claim. */
static __always_inline __u32 claim_use(struct flow *flow, __u32 taken)
{
	keep_order();
	write_once(flow->claim, taken | CLAIM_IN_USE);
	return taken | CLAIM_IN_USE;
}

#endif
