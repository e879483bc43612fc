// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_loopback: TC egress of lo, only with Services for the Node's own processes. Their packets to the Node's own
 * addresses never leave by fairway0, where from_host would give them a backend. So this program sends packets to a
 * NodePort, or to a Service's port at one of these addresses, out of fairway0. All other packets are left unchanged;
 * packets to 127.0.0.0/8 or ::1 are not even parsed.
 *
 *  1. parse
 *  2. flow           a known flow of a Service, in original direction
 *  3. frontend       a new flow, at one of the Node's addresses
 */
#define FAIRWAY_HOOK HOOK_FROM_LOOPBACK
#include "lib/emit.h"
#include "lib/service.h"
#include "lib/track.h"

/* 127.0.0.0/8 (RFC 1122, 3.2.1.3) and ::1: no Service is there. */
static __always_inline bool is_to_loopback(struct __sk_buff *ctx)
{
	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = bytes_at(ctx, ETH_HLEN, sizeof(*ip));

		return !ip || (ip->daddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	}
	if (ctx->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = bytes_at(ctx, ETH_HLEN, sizeof(*ip));
		const __be32 *word;

		if (!ip)
			return true;
		word = (const __be32 *)&ip->daddr;
		return !(word[0] | word[1] | word[2] | (word[3] ^ bpf_htonl(1)));
	}
	return true;
}

/* 3. A segment that begins no connection and has no flow belongs to no connection to a Service. */
static __always_inline bool may_begin(const struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP)
		return (packet->l4_type & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	return packet->key.protocol == IPPROTO_UDP || packet->key.protocol == IPPROTO_SCTP;
}

/* 3 */
static __always_inline bool is_service(const struct packet *packet)
{
	struct route route = route_lookup(&packet->key.destination);

	return route.kind == ROUTE_HOST && is_service_port(route.flags);
}

static __always_inline int receive(struct __sk_buff *ctx, struct work *work)
{
	const struct node_config *node = node_configuration();
	struct verdict *verdict = &work->verdict;
	struct packet *packet = &work->packet;

	if (!node || !(node->flags & NODE_CONFIGURED) || !(node->flags & NODE_SERVES_ALL))
		return pass(verdict);

	/* 1 */
	if (parse(ctx, packet, ETH_HLEN, ctx->protocol, false) ||
	    packet->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT))
		return pass(verdict);

	/* 2 */
	if (flow_lookup(&packet->key, node, bpf_ktime_get_coarse_ns())) {
		if (work->track.direction != FLOW_ORIGINAL || !flow_backend(&work->flow))
			return pass(verdict);
	} else if (!may_begin(packet) || !is_service(packet)) {
		/* 3 */
		return pass(verdict);
	}
	decide(verdict, ACTION_WIRE);
	verdict->ifindex = node->host_ifindex;
	return bpf_redirect(node->host_ifindex, 0);
}

SEC("tc")
int from_loopback(struct __sk_buff *ctx)
{
	struct verdict stays = { .peer = NO_PEER };
	struct work *work;
	int result;

	if (is_to_loopback(ctx)) {
		result = pass(&stays);
		record(&stays);
		return result;
	}
	work = work_start();
	if (!work)
		return TC_ACT_UNSPEC;
	result = receive(ctx, work);
	record(&work->verdict);
	return result;
}
