/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps and load-time knobs of all programs. They are defined in tables.bpf.c; the static
 * linker merges the declarations, so a map has the same type everywhere.
 */
#ifndef FAIRWAY_MAPS_H
#define FAIRWAY_MAPS_H

#include <linux/bpf.h>
/* libbpf's prototypes declare the kernel's `struct path`, which would collide with enum path. */
#define path kernel_path
#include <bpf/bpf_helpers.h>
#undef path

#include "tables.h"

/* ------------------------------------------------------------ knobs */

/* Written before the load; the verifier removes the branches that they close. */
extern const volatile __u8 trace_verdicts; /* tests: each decision is written to `verdicts` */
extern const volatile __u32 slow_reads;	   /* tests: how long a CPU pauses, see element.h */
extern const volatile __u32
	slow_writes; /* tests: likewise while it has a slot locked, see flow_claim.h */
extern const volatile __u8 veth_wire;	       /* the NIC is a veth: checksums may be unfinished */
extern const volatile __u8 xdp_generic;	       /* XDP runs in generic mode: see from_wire */
extern const volatile __u8 has_decap_l3;       /* the kernel knows BPF_F_ADJ_ROOM_DECAP_L3_* */
extern const volatile __u8 has_fib_source;     /* the kernel knows BPF_FIB_LOOKUP_SRC */
extern const volatile __u8 has_fib_mark;       /* the kernel knows BPF_FIB_LOOKUP_MARK */
extern const volatile __u8 has_conntrack;      /* the kernel has bpf_skb_ct_lookup */
extern const volatile __u8 has_kernel_context; /* the kernel has bpf_cast_to_kern_ctx */
extern const volatile __u8 weak_memory_order;  /* the CPU may reorder reads, and writes: not x86 */
extern const volatile __u32 flow_slots;	       /* max_entries of `flows` */

/* ------------------------------------------------------------ agent */

extern struct node_config_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_config);
} node_config SEC(".maps");

extern struct peers_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX * 2);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

extern struct peer_addresses_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PEERS_MAX * 4);
	__type(key, struct address);
	__type(value, __u32);
} peer_addresses SEC(".maps");

extern struct peer_paths_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX * 4);
	__type(key, __u32);
	__type(value, struct peer);
} peer_paths SEC(".maps");

extern struct peer_gateways_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PEER_GATEWAYS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
} peer_gateways SEC(".maps");

extern struct routes_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ROUTES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route_key);
	__type(value, struct route);
} routes SEC(".maps");

extern struct endpoints_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENDPOINTS_MAX);
	__type(key, struct address);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

extern struct source_addresses_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SOURCE_ADDRESSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct source_address);
} source_addresses SEC(".maps");

extern struct frontends_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FRONTENDS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend_key);
	__type(value, struct frontend);
} frontends SEC(".maps");

extern struct services_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX);
	__type(key, __u32);
	__type(value, struct service);
} services SEC(".maps");

extern struct service_slots_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICE_SLOTS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} service_slots SEC(".maps");

extern struct backends_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

extern struct backend_states_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BACKENDS_MAX / 8);
	__type(key, __u32);
	__type(value, __u64);
} backend_states SEC(".maps");

extern struct service_ranges_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, SERVICE_RANGES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct range_key);
	__type(value, __u8);
} service_ranges SEC(".maps");

extern struct identities_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IDENTITIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
} identities SEC(".maps");

extern struct blocks_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, BLOCKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route_key);
	__type(value, __u32);
} blocks SEC(".maps");

extern struct class_limit_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} class_limit SEC(".maps");

extern struct policies_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICIES_MAX);
	__type(key, __u32);
	__type(value, struct policy);
} policies SEC(".maps");

extern struct policy_verdicts_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POLICY_VERDICTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_verdict_key);
	__type(value, struct policy_verdict);
} policy_verdicts SEC(".maps");

/* A hash, not an array: a part is large, and most Nodes need few. */
extern struct port_sets_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORT_SETS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct port_set);
} port_sets SEC(".maps");

extern struct element_writes_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} element_writes SEC(".maps");

/* ------------------------------------------------------------ core */

extern struct flow_rules_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, __u32);
	__type(value, struct flow_rules);
} flow_rules SEC(".maps");

extern struct rule_counters_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_RULES_MAX);
	__type(key, __u32);
	__type(value, struct rule_counter);
} rule_counters SEC(".maps");

extern struct policy_denials_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DENIALS_MAX);
	__type(key, __u32);
	__type(value, struct policy_denial);
} policy_denials SEC(".maps");

extern struct service_affinity_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, AFFINITIES_MAX);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
} service_affinity SEC(".maps");

/* One for all CPUs: an entry is written some ten times a second, and read with every packet. */
extern struct next_hops_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NEXT_HOP_OUTSIDE + GATEWAYS_MAX);
	__type(key, __u32);
	__type(value, struct next_hop);
} next_hops SEC(".maps");

extern struct next_hop_settle_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} next_hop_settle SEC(".maps");

/* Not LRU: a tuple of a flow must not be evicted without the other. */
extern struct flow_index_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS_DEFAULT * 2 + FLOW_INDEX_SPARE);
	__type(key, struct flow_key);
	__type(value, struct flow_ref);
} flow_index SEC(".maps");

/* BPF_F_MMAPABLE aligns the values to a page: a flow covers two cache lines instead of three, and its
 * neighbour the next two. */
extern struct flows_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS_DEFAULT);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

extern struct flow_hints_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS_DEFAULT / 2);
	__type(key, __u32);
	__type(value, struct flow_pair);
} flow_hints SEC(".maps");

extern struct flow_counts_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENDPOINTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_counts SEC(".maps");

extern struct fragments_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FRAGMENTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

extern struct fragment_places_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FRAGMENTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fragment_place);
	__type(value, struct fragment_key);
} fragment_places SEC(".maps");

extern struct fragment_turns_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OWNER_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} fragment_turns SEC(".maps");

extern struct drops_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

extern struct events_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* The loader gives it as many entries as there are peers: its memory is taken for every possible
 * CPU. A peer beyond that is not counted. */
extern struct peer_counters_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PEERS_MAX * 2);
	__type(key, __u32);
	__type(value, struct peer_counter);
} peer_counters SEC(".maps");

extern struct probe_events_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PROBE_RING_BYTES);
} probe_events SEC(".maps");

extern struct path_proofs_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX * 4);
	__type(key, __u32);
	__type(value, struct path_proof);
} path_proofs SEC(".maps");

extern struct peer_activity_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX * 2);
	__type(key, __u32);
	__type(value, struct peer_activity);
} peer_activity SEC(".maps");

extern struct slow_path_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SLOW_PATH_BYTES);
} slow_path SEC(".maps");

extern struct slow_path_buckets_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUCKET_COUNT);
	__type(key, __u32);
	__type(value, struct token_bucket);
} slow_path_buckets SEC(".maps");

extern struct scratch_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

extern struct verdicts_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdict);
} verdicts SEC(".maps");

#endif
