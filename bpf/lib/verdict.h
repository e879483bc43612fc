/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The verdict on a packet, and the one place where it is counted.
 */
#ifndef FAIRWAY_VERDICT_H
#define FAIRWAY_VERDICT_H

#include "context.h"

static __always_inline void decide(struct verdict *verdict, enum action action)
{
	verdict->action = action;
}

static __always_inline void drop(struct verdict *verdict, enum drop_reason reason)
{
	verdict->action = ACTION_DROP;
	verdict->drop_reason = reason;
}

static __always_inline void record(const struct verdict *verdict)
{
	__u32 zero = 0, reason = verdict->drop_reason;
	struct verdict *trace;

	if (reason) {
		__u64 *counter = bpf_map_lookup_elem(&drops, &reason);

		if (counter)
			*counter += 1;
	}
	if (trace_verdicts) {
		trace = bpf_map_lookup_elem(&verdicts, &zero);
		if (trace)
			*trace = *verdict;
	}
}

#endif
