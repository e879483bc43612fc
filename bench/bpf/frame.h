/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by the benches' programs: how to recognise a frame of the generator. */
#ifndef FAIRWAY_BENCH_FRAME_H
#define FAIRWAY_BENCH_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The last eight bytes of every generated frame, whatever headers were added or removed. */
#define FRAME_MAGIC 0xfa1bbe9c5eed0001ULL
#define FRAME_MAX 2047

/* Recognises a frame by its end, where no dataplane writes. */
static __always_inline _Bool is_generated(void *data, void *end, __u32 length)
{
	__u32 offset = length - sizeof(__u64);
	__u64 *last;

	/* The verifier checks packet pointers only upwards from an offset, so the offset must stay
	 * a separate value; the compiler would fold it into the length. */
	asm volatile("" : "+r"(offset));
	if (offset > FRAME_MAX)
		return 0;
	last = data + offset;
	return (void *)(last + 1) <= end && *last == FRAME_MAGIC;
}

#endif
