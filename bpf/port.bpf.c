// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Whether a port of the Node is in use towards a destination: TCP and UDP only, as the kernel offers no
 * look-up for other protocols.
 *
 *  1. sockets      a socket that would receive the answers; for a backend that is the Node itself, one that has a
 *                  connection with the client already
 *  2. conntrack    a connection that netfilter translates, which has no socket. Our flows get an entry
 *                  there, so that netfilter does not reuse their ports. Only while netfilter tracks in
 *                  this namespace: without a rule that needs conntrack nothing is translated, and an
 *                  entry would cost as much as the rest of a new flow.
 */
#define FAIRWAY_HOOK HOOK_FROM_POD
#include "lib/conntrack.h"
#include "lib/flow_create.h"

struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

/* Not yet in the table. A definition, not a declaration: libbpf compares kinds of types. */
struct nf_conn___init {
	struct nf_conn ct;
};

/* From the kernel's enum ip_conntrack_status: the source or the destination is translated. */
#define IPS_NAT_MASK 0x30

/* An entry's time-out, from the Pod's last packet that took the full path; the end of a connection
 * shortens it. */
#define CLAIM_MS (300 * 1000)
#define CLAIM_OVER_MS (10 * 1000)

/* Entries outlast flows, and all of the Node shares the kernel's table: a Pod with more flows than this, or
 * more that are unanswered or over, gets no more entries. */
#define CLAIM_FLOWS_MAX 8192
#define CLAIM_SPARE_MAX 1024

/* Weak: without connection tracking in the kernel, or without its module, there are none. Then the knob
 * has_conntrack is 0 and the verifier removes the calls. */
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32,
					 struct bpf_ct_opts *, __u32)
__ksym __weak;
extern struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *, struct bpf_sock_tuple *, __u32,
					       struct bpf_ct_opts *, __u32)
__ksym __weak;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *) __ksym __weak;
extern void bpf_ct_set_timeout(struct nf_conn___init *, __u32) __ksym __weak;
extern int bpf_ct_change_timeout(struct nf_conn *, __u32)
__ksym __weak;
extern void bpf_ct_release(struct nf_conn *) __ksym __weak;

/* The size of the tuple, as the kernel expects it. */
static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, const struct flow_key *key)
{
	if (address_is_ipv4(&key->destination)) {
		tuple->ipv4.saddr = key->source.word[3];
		tuple->ipv4.daddr = key->destination.word[3];
		tuple->ipv4.sport = key->source_port;
		tuple->ipv4.dport = key->destination_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &key->source, 16);
	__builtin_memcpy(tuple->ipv6.daddr, &key->destination, 16);
	tuple->ipv6.sport = key->source_port;
	tuple->ipv6.dport = key->destination_port;
	return sizeof(tuple->ipv6);
}

/* Netfilter tracks connections of this address's family in this namespace. */
static __always_inline bool is_tracked(struct __sk_buff *ctx, const struct address *address)
{
	return has_conntrack && netfilter_tracks(ctx, address_is_ipv4(address) ? 4 : 6);
}

/* Stage 1. */
static __always_inline bool socket_exists(struct __sk_buff *ctx, __u8 protocol,
					  struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *socket;

	if (protocol == IPPROTO_TCP)
		socket = bpf_skc_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		socket = bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

static __always_inline void options_set(struct bpf_ct_opts *options, __u8 protocol)
{
	__builtin_memset(options, 0, sizeof(*options));
	options->netns_id = BPF_F_CURRENT_NETNS;
	options->l4proto = protocol;
}

int port_has_socket(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	__u8 protocol;
	__u32 size;

	if (!work)
		return 1;
	protocol = work->reply.protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	size = tuple_of(&work->port.tuple, &work->reply);
	return socket_exists(ctx, protocol, &work->port.tuple, size);
}

int connection_exists(struct __sk_buff *ctx)
{
	struct bpf_sock *socket;
	struct work *work = work_space();
	int exists;
	__u32 size;

	if (!work || work->reply.protocol != IPPROTO_TCP)
		return 0;
	key_reverse(&work->removed, &work->reply);
	size = tuple_of(&work->port.tuple, &work->removed);
	socket = bpf_skc_lookup_tcp(ctx, &work->port.tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return 0;
	exists = socket->state != BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return exists;
}

/* An entry without translation is ours, or of a connection whose socket is gone. */
int port_known(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	struct nf_conn *known;
	__u32 size;
	int found;

	if (!has_conntrack || !work || !is_tracked(ctx, &work->reply.source))
		return PORT_ENTERED;
	if (work->reply.protocol != IPPROTO_TCP && work->reply.protocol != IPPROTO_UDP)
		return PORT_ENTERED;
	size = tuple_of(&work->port.tuple, &work->reply);
	options_set(&work->port.options, work->reply.protocol);
	known = bpf_skb_ct_lookup(ctx, &work->port.tuple, size, &work->port.options,
				  sizeof(work->port.options));
	if (!known)
		return PORT_UNKNOWN;
	found = known->status & IPS_NAT_MASK ? PORT_TRANSLATED : PORT_ENTERED;
	if (found == PORT_ENTERED)
		bpf_ct_change_timeout(known, CLAIM_MS);
	bpf_ct_release(known);
	return found;
}

/* If there is no room for an entry, the port counts as free. The connection begins at the
 * Node. */
int port_enter(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	struct nf_conn___init *made;
	struct flow_count *counts;
	struct nf_conn *entered;
	__u32 size, index;

	if (!has_conntrack || !work)
		return 0;
	index = work->track.known ? work->flow.endpoint : work->search.endpoint;
	counts = bpf_map_lookup_elem(&flow_counts, &index);
	if (!counts || counts->flows > CLAIM_FLOWS_MAX || counts->spare > CLAIM_SPARE_MAX)
		return 0;
	key_reverse(&work->removed, &work->reply);
	size = tuple_of(&work->port.tuple, &work->removed);
	options_set(&work->port.options, work->reply.protocol);
	made = bpf_skb_ct_alloc(ctx, &work->port.tuple, size, &work->port.options,
				sizeof(work->port.options));
	if (!made)
		return 0;
	bpf_ct_set_timeout(made, CLAIM_MS);
	entered = bpf_ct_insert_entry(made);
	if (!entered)
		return 1;
	bpf_ct_release(entered);
	return 0;
}

int port_keep(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	struct bpf_ct_opts *options;
	struct nf_conn *known;
	struct flow *flow;
	__u8 protocol;
	__u32 size;

	if (!has_conntrack || !work || !is_tracked(ctx, &work->flow.addresses[FLOW_REPLY].source))
		return 0;
	protocol = work->flow.protocol;
	flow = flow_at(work->track.slot);
	if (!flow || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return 0;
	flow_tuple(&work->reply, &work->flow, FLOW_REPLY);
	size = tuple_of(&work->port.tuple, &work->reply);
	options = &work->port.options;
	options_set(options, protocol);
	known = bpf_skb_ct_lookup(ctx, &work->port.tuple, size, options, sizeof(*options));
	if (!known)
		return 1;
	if (!(known->status & IPS_NAT_MASK))
		bpf_ct_change_timeout(known,
				      flow->state == FLOW_TCP_CLOSED ? CLAIM_OVER_MS : CLAIM_MS);
	bpf_ct_release(known);
	return 0;
}
