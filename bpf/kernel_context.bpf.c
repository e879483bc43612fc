// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Fields of the kernel's sk_buff that the program's context lacks. Since Linux 6.2 a program may read them; before, the
 * knob has_kernel_context is 0 and the verifier removes the reads. All in one object, because the linker of libbpf 1.1
 * accepts a kernel function in one object only.
 *
 *  1. netfilter   tracks connections in the packet's namespace
 *  2. checksum    the kind of the L4 checksum (skb->ip_summed)
 */
#include <bpf/bpf_core_read.h>
#include "lib/conntrack.h"
#include "lib/rewrite.h"

struct netns_nf {
	unsigned int defrag_ipv4_users;
	unsigned int defrag_ipv6_users;
} __attribute__((preserve_access_index));

struct net {
	struct netns_nf nf;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct net_device {
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *) __ksym __weak;

int netfilter_tracks(struct __sk_buff *ctx, __u8 family)
{
	struct netns_nf *nf = NULL;
	struct sk_buff *packet;

	if (!has_kernel_context || !bpf_core_field_exists(nf->defrag_ipv4_users))
		return 1;
	packet = bpf_cast_to_kern_ctx(ctx);
	nf = &packet->dev->nd_net.net->nf;
	return !!(family == 4 ? nf->defrag_ipv4_users : nf->defrag_ipv6_users);
}

int checksum_kind(struct __sk_buff *ctx)
{
	struct sk_buff *packet = NULL;

	if (!has_kernel_context || !bpf_core_field_exists(packet->ip_summed))
		return CHECKSUM_COMPLETE;
	packet = bpf_cast_to_kern_ctx(ctx);
	return BPF_CORE_READ_BITFIELD(packet, ip_summed);
}
