/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Flows: `flow_index` maps both tuples of a flow to one slot of `flows`.
 *
 *  1. look up       the slots that the tuple's hash names, else the index; the generation tells
 *                   a stale entry of it
 *  2. create        claim a slot that is free or expired, then publish its tuples
 *  3. advance       the state machine, and last_seen
 *
 * There is no LRU and no timer: who creates a flow removes old ones on the way.
 */
#ifndef FAIRWAY_FLOW_H
#define FAIRWAY_FLOW_H

#include "packet.h"
#include "work.h"

/* last_seen is written again only after this long, to leave the cache line alone. */
#define FLOW_TOUCH_NS (250 * NS_PER_MS)

struct flow_match {
	struct flow *flow; /* NULL: none */
	__u32 claim;	   /* the flow's when it was found */
	__u8 direction;	   /* enum flow_direction */
};

static __always_inline bool flow_expired(const struct flow *flow, const struct node_config *node,
					 __u64 now)
{
	__u32 state = flow->state, timeout;
	__u64 last_seen = flow->last_seen;

	if (state >= FLOW_STATE_COUNT)
		return true;
	timeout = node->flow_timeouts[state];
	/* FLOW_NONE: claimed and about to be filled, on another CPU. */
	if (!timeout)
		timeout = 1;
	return now > last_seen && now - last_seen > timeout * NS_PER_SECOND;
}

/* The slot that a reference means, NULL when it has been claimed for another flow since. */
static __always_inline struct flow *flow_of(const struct flow_ref *ref)
{
	__u32 slot = ref->slot;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow || flow->claim != (ref->generation << 1 | 1))
		return NULL;
	return flow;
}

#define HASH_HIGH 0x9e3779b97f4a7c15ULL
#define HASH_LOW 0xc2b2ae3d27d4eb4fULL
#define HASH_SUM 0xd6e8feb86659fd93ULL

/* A flow key as whole words, for those who hash it and compare it. */
struct key_words {
	__u64 source[2];
	__u64 destination[2];
	__u64 rest; /* source port, destination port, protocol, padding */
};

_Static_assert(sizeof(struct key_words) == sizeof(struct flow_key), "flow key size");

static __always_inline const struct key_words *key_words(const struct flow_key *key)
{
	return (const struct key_words *)key;
}

static __always_inline __u64 side_hash(const __u64 *address, __u16 port, __u64 seed)
{
	__u64 hash = (address[0] ^ seed) * HASH_HIGH ^ (address[1] ^ port ^ seed) * HASH_LOW;

	return hash ^ hash >> 32;
}

/* Spreads flows over slots, SNAT ports and tunnel source ports; see ARCHITECTURE, Tunnel. The
 * same for both directions, so that a slot that it names serves both. */
static __always_inline __u32 words_hash(const struct key_words *key, __u32 seed, bool with_ports)
{
	__u64 wide = (__u64)seed << 32 | seed;
	__u32 ports = with_ports ? key->rest : 0;
	__u64 sum = side_hash(key->source, ports, wide) +
		    side_hash(key->destination, ports >> 16, wide);

	return ((sum + (__u8)(key->rest >> 32)) * HASH_SUM) >> 32;
}

static __always_inline __u32 flow_hash(const struct flow_key *key, __u32 seed, bool with_ports)
{
	return words_hash(key_words(key), seed, with_ports);
}

/* The first place of a flow; its second is the neighbour in the same 256 bytes. */
static __always_inline __u32 flow_home(__u32 hash)
{
	return ((__u64)hash * flow_slots) >> 32;
}

/* The claim of the flow in `slot` << 1 | the direction in which this tuple belongs to it; -1: it does
 * not. A translated flow is known by its reply tuple in the index alone. */
static __always_inline long flow_in_slot(__u32 slot, const struct key_words *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
	const struct key_words *own;
	__u32 ports = key->rest, claim;

	if (!flow)
		return -1;
	claim = flow->claim;
	/* What is compared now is of this claim, or flow_still tells. */
	barrier();
	if (!(claim & 1) || !flow->published)
		return -1;
	own = key_words(&flow->key);
	if (!((own->source[1] ^ key->source[1]) | (own->destination[1] ^ key->destination[1]) |
	      (own->rest ^ key->rest) | (own->source[0] ^ key->source[0]) |
	      (own->destination[0] ^ key->destination[0])))
		return (long)claim << 1 | FLOW_ORIGINAL;
	if ((own->source[1] ^ key->destination[1]) | (own->destination[1] ^ key->source[1]) |
	    (own->rest ^ (key->rest >> 32 << 32 | (__u32)(ports << 16 | ports >> 16))) |
	    (own->source[0] ^ key->destination[0]) | (own->destination[0] ^ key->source[0]) |
	    (flow->flags & FLOW_SNAT))
		return -1;
	return (long)claim << 1 | FLOW_REPLY;
}

/* `own`: the tuple may be that of a slot; else only the index is asked. */
static __always_inline struct flow_match flow_find(const struct flow_key *key, __u32 hash, bool own)
{
	__u32 slot = flow_home(hash);
	struct flow_match match = {};
	struct flow_ref *ref;
	long found = -1;

	if (own) {
		found = flow_in_slot(slot, key_words(key));
		if (found < 0) {
			slot ^= 1;
			found = flow_in_slot(slot, key_words(key));
		}
	}
	if (found < 0) {
		ref = bpf_map_lookup_elem(&flow_index, key);
		if (!ref || !flow_of(ref))
			return match;
		slot = ref->slot;
		found = (((long)ref->generation << 1 | 1) << 1) | (ref->direction & 1);
	}
	/* Wherever it was found: from here on it is one state for the verifier. */
	hide(found);
	match.claim = found >> 1;
	match.direction = found & 1;
	match.flow = bpf_map_lookup_elem(&flows, &slot);
	return match;
}

/* No other flow has taken the slot since it was found: what was read of it belongs together. */
static __always_inline bool flow_still(const struct flow_match *match)
{
	barrier();
	return match->flow->claim == match->claim;
}

/* An expired flow is unknown: what begins again may be translated otherwise by now, or not at all. */
static __always_inline struct flow_match flow_lookup(const struct flow_key *key,
						     const struct node_config *node, __u64 now)
{
	struct flow_match match = flow_find(key, flow_hash(key, node->hash_seed, true), true);

	if (match.flow && flow_expired(match.flow, node, now))
		match.flow = NULL;
	return match;
}

static __always_inline void key_reverse(struct flow_key *to, const struct flow_key *from)
{
	to->source = from->destination;
	to->destination = from->source;
	to->source_port = from->destination_port;
	to->destination_port = from->source_port;
	to->protocol = from->protocol;
	__builtin_memset(to->pad, 0, sizeof(to->pad));
}

/* The tuple that answers carry. */
static __always_inline void flow_reply_key(struct flow_key *to, const struct flow *flow)
{
	key_reverse(to, &flow->key);
	if (flow->flags & FLOW_SNAT) {
		to->destination = flow->snat_address;
		to->destination_port = flow->snat_port;
	}
}

static __always_inline void unpublish(const struct flow_key *key, __u32 slot, __u32 generation)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, key);

	/* The tuple may belong to a newer flow by now. */
	if (ref && ref->slot == slot && ref->generation == generation)
		bpf_map_delete_elem(&flow_index, key);
}

/* Takes a slot out of service together with both its tuples, and into ours.
 * False: another CPU was first. */
static __always_inline bool flow_claim(struct flow *flow, __u32 slot, __u32 claim, __u64 now)
{
	__u32 taken = (claim + 2) | 1;
	struct work *work = work_space();

	if (!work)
		return false;
	/* Before the claim is seen, so that no other CPU takes the slot for expired. */
	flow->last_seen = now;
	if (__sync_val_compare_and_swap(&flow->claim, claim, taken) != claim)
		return false;
	flow->published = 0;
	if (claim & 1) {
		flow_reply_key(&work->removed, flow);
		unpublish(&work->removed, slot, claim >> 1);
		work->removed = flow->key;
		unpublish(&work->removed, slot, claim >> 1);
	}
	return true;
}

static __always_inline void flow_release(struct flow *flow)
{
	__u32 claim = flow->claim;

	__sync_val_compare_and_swap(&flow->claim, claim, claim & ~1);
}

/* The flow is as good as expired: whatever comes next begins anew. */
static __always_inline void flow_end(struct flow *flow)
{
	flow->state = FLOW_NONE;
	flow->last_seen = 0;
}

static __always_inline bool flow_unanswered(const struct flow *flow)
{
	return flow->state == FLOW_TCP_OPENING || flow->state == FLOW_UDP_OPENING ||
	       flow->state == FLOW_SCTP_OPENING;
}

struct slot_search {
	const struct node_config *node;
	__u64 now;
	__u32 next;
	__u32 found; /* slot, or NO_PEER */
	__u64 oldest_seen;
	__u32 oldest; /* slot of the oldest unanswered flow, or NO_PEER */
	__u32 step;
};

static long slot_try(__u32 index, struct slot_search *search)
{
	__u32 slot = index == 1 ? search->next ^ 1 : search->next, claim;
	struct flow *flow;

	if (index)
		search->next = (search->next + search->step) % flow_slots;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return 0;
	claim = flow->claim;
	if (!(claim & 1) || flow_expired(flow, search->node, search->now)) {
		if (!flow_claim(flow, slot, claim, search->now))
			return 0;
		search->found = slot;
		return 1;
	}
	if (flow_unanswered(flow) && flow->last_seen < search->oldest_seen) {
		search->oldest = slot;
		search->oldest_seen = flow->last_seen;
	}
	return 0;
}

/*
 * A slot that is ours alone, or -1: the table is full. The places to look at follow from the key:
 * its home, the neighbour of that, and on with a stride of its own, so that they are a fair sample
 * of the table: when a share `a` of it is in use, a search fails with probability
 * a^FLOW_SLOT_TRIES, wherever the flows lie. A function of its own: on its callers' stack, beside
 * what they keep for later, the search would be too much for 6.1.
 */
static __noinline int flow_slot(const struct flow_key *key, const struct node_config *node,
				__u64 now)
{
	__u32 hash = flow_hash(key, node->hash_seed, true);
	struct slot_search search = {
		.node = node,
		.now = now,
		.next = flow_home(hash),
		.step = (hash & 0xffff) | 1,
		.found = NO_PEER,
		.oldest = NO_PEER,
		.oldest_seen = ~0ULL,
	};
	struct flow *flow;

	bpf_loop(FLOW_SLOT_TRIES, slot_try, &search, 0);
	if (search.found != NO_PEER)
		return search.found;
	flow = bpf_map_lookup_elem(&flows, &search.oldest);
	if (!flow || !flow_claim(flow, search.oldest, flow->claim | 1, now))
		return -1;
	count_event(EVENT_FLOW_EVICTED_EARLY);
	return search.oldest;
}

static __always_inline struct flow *flow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&flows, &slot);
}

static __always_inline __u8 flow_initial_state(const struct packet *packet)
{
	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		/* A flow that is met in the middle was opened before we looked. */
		return (packet->l4_type & (TCP_SYN | TCP_ACK)) == TCP_SYN ? FLOW_TCP_OPENING
									  : FLOW_TCP_ESTABLISHED;
	case IPPROTO_UDP:
		return FLOW_UDP_OPENING;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return FLOW_ICMP;
	case IPPROTO_SCTP:
		return packet->l4_type == SCTP_INIT ? FLOW_SCTP_OPENING : FLOW_SCTP_ESTABLISHED;
	}
	return FLOW_OTHER;
}

static __always_inline void flow_fill(struct flow *flow, const struct packet *packet, __u64 now)
{
	flow->state = flow_initial_state(packet);
	flow->flags = 0;
	flow->snat_port = 0;
	flow->key = packet->key;
	__builtin_memset(&flow->snat_address, 0, sizeof(flow->snat_address));
	flow->route_epoch = 0;
	flow->peer = NO_PEER;
	flow->route_kind = 0;
	flow->route_flags = 0;
	flow->local_ifindex = 0;
	__builtin_memset(&flow->next_hop, 0, sizeof(flow->next_hop));
	flow->last_seen = now;
}

/* From here on a look-up finds the flow in its slot. */
static __always_inline void flow_finish(struct flow *flow)
{
	barrier();
	flow->published = 1;
}

static __always_inline int flow_publish(const struct flow *flow, __u32 slot,
					const struct flow_key *key, __u8 direction, __u64 how)
{
	struct flow_ref ref = {
		.slot = slot,
		.generation = flow->claim >> 1,
		.direction = direction,
	};

	return bpf_map_update_elem(&flow_index, key, &ref, how);
}

/* Frees a tuple whose flow has expired. False: it is in use. */
static __always_inline bool tuple_free(const struct flow_key *reply, const struct node_config *node,
				       __u64 now)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, reply);
	struct flow_ref old;
	struct flow *flow;

	if (!ref)
		return true;
	old = *ref;
	flow = flow_of(&old);
	if (!flow) {
		unpublish(reply, old.slot, old.generation);
		return true;
	}
	if (!flow_expired(flow, node, now))
		return false;
	if (!flow_claim(flow, old.slot, old.generation << 1 | 1, now))
		return false;
	flow_release(flow);
	return true;
}

/* A new flow without translation: its slot, or -1 when the table is full or the tuple of its
 * answers belongs to another flow. */
stage int flow_create(const struct packet *packet, const struct node_config *node)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct work *work = work_space();
	struct flow_key *reply;
	struct flow *flow;
	int slot;

	if (!packet || !node || !work)
		return -1;
	reply = &work->reply;
	key_reverse(reply, &packet->key);
	if (!tuple_free(reply, node, now))
		return -1;
	slot = flow_slot(&packet->key, node, now);
	if (slot < 0)
		return -1;
	flow = flow_at(slot);
	if (!flow)
		return -1;
	flow_fill(flow, packet, now);
	/* The original tuple was looked up in vain: if it is there, it is an expired flow's, or
	 * the same flow met on two CPUs at once, and the later one serves as well. */
	if (flow_publish(flow, slot, reply, FLOW_REPLY, BPF_NOEXIST))
		goto release;
	if (flow_publish(flow, slot, &flow->key, FLOW_ORIGINAL, BPF_ANY)) {
		unpublish(reply, slot, flow->claim >> 1);
		goto release;
	}
	flow_finish(flow);
	return slot;
release:
	flow_release(flow);
	return -1;
}

/* The same, or NULL: the packet goes on without a flow. */
static __always_inline struct flow *flow_start(const struct packet *packet,
					       const struct node_config *node)
{
	int slot = flow_create(packet, node);

	if (slot < 0) {
		count_event(EVENT_UNTRACKED);
		return NULL;
	}
	return flow_at(slot);
}

static __always_inline void tcp_advance(struct flow *flow, __u8 direction, __u8 tcp)
{
	__u8 state = flow->state, flags = flow->flags;
	__u8 fin = direction == FLOW_ORIGINAL ? FLOW_FIN_ORIGINAL : FLOW_FIN_REPLY;

	if (direction == FLOW_ORIGINAL && (tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	    (state == FLOW_TCP_CLOSING || state == FLOW_TCP_CLOSED)) {
		state = FLOW_TCP_OPENING;
		flags &= ~(FLOW_REPLIED | FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY);
	}
	if (direction == FLOW_REPLY) {
		flags |= FLOW_REPLIED;
		if (state == FLOW_TCP_OPENING)
			state = FLOW_TCP_ESTABLISHED;
	}
	if (tcp & TCP_FIN) {
		flags |= fin;
		if (state != FLOW_TCP_CLOSED)
			state = FLOW_TCP_CLOSING;
		if ((flags & (FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY)) ==
		    (FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY))
			state = FLOW_TCP_CLOSED;
	}
	if (tcp & TCP_RST)
		state = FLOW_TCP_CLOSED;
	if (state != flow->state)
		flow->state = state;
	if (flags != flow->flags)
		flow->flags = flags;
}

static __always_inline void sctp_advance(struct flow *flow, __u8 direction, __u8 chunk)
{
	__u8 state = flow->state;

	if (direction == FLOW_ORIGINAL && chunk == SCTP_INIT && state == FLOW_SCTP_CLOSED)
		state = FLOW_SCTP_OPENING;
	if (direction == FLOW_REPLY && state == FLOW_SCTP_OPENING)
		state = FLOW_SCTP_ESTABLISHED;
	if (chunk == SCTP_ABORT || chunk == SCTP_SHUTDOWN_COMPLETE)
		state = FLOW_SCTP_CLOSED;
	if (state != flow->state)
		flow->state = state;
}

/* A packet of a known flow. Later fragments have no flags of their own (l4_type is 0). */
static __always_inline void flow_advance(struct flow *flow, __u8 direction,
					 const struct packet *packet, __u64 now)
{
	if (now > flow->last_seen + FLOW_TOUCH_NS)
		flow->last_seen = now;
	if (packet->key.protocol == IPPROTO_TCP) {
		tcp_advance(flow, direction, packet->l4_type);
		return;
	}
	if (direction == FLOW_REPLY && !(flow->flags & FLOW_REPLIED)) {
		flow->flags |= FLOW_REPLIED;
		if (flow->state == FLOW_UDP_OPENING)
			flow->state = FLOW_UDP_ESTABLISHED;
	}
	if (packet->key.protocol == IPPROTO_SCTP)
		sctp_advance(flow, direction, packet->l4_type);
}

#endif
