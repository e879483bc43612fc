// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The definitions of all maps and load-time knobs; lib/maps.h declares them. */
#include "lib/maps.h"

const volatile __u8 trace_verdicts = 0;
const volatile __u32 slow_reads = 0;
const volatile __u32 slow_writes = 0;
const volatile __u8 veth_wire = 0;
const volatile __u8 xdp_generic = 0;
const volatile __u8 has_decap_l3 = 0;
const volatile __u8 has_fib_source = 0;
const volatile __u8 has_fib_mark = 0;
const volatile __u8 has_conntrack = 0;
const volatile __u8 has_kernel_context = 0;
const volatile __u8 weak_memory_order = 0;
const volatile __u32 flow_slots = FLOWS_DEFAULT;

/*
 * BTF has only the types of variables. These types are used as numbers or on the ring, and TypeScript is
 * generated from BTF.
 */
const volatile union {
	enum limit limit;
	enum hook hook;
	enum drop_reason drop_reason;
	enum event_counter event_counter;
	enum flow_state flow_state;
	enum node_flag node_flag;
	enum peer_flag peer_flag;
	enum path path;
	enum route_kind route_kind;
	enum route_flag route_flag;
	enum frontend_kind frontend_kind;
	enum service_flag service_flag;
	enum backend_state backend_state;
	enum endpoint_policy endpoint_policy;
	enum policy_class policy_class;
	enum judgement_flag judgement_flag;
	enum port_position port_position;
	enum flow_direction flow_direction;
	enum flow_flag flow_flag;
	enum flow_place flow_place;
	enum claim_bit claim_bit;
	enum slow_path_kind slow_path_kind;
	enum slow_path_bucket slow_path_bucket;
	enum fragment_owner fragment_owner;
	enum probe_way probe_way;
	enum probe_kind probe_kind;
	enum probe_flag probe_flag;
	enum probe_event probe_event;
	enum action action;
	struct slow_path_header slow_path_header;
	struct probe probe;
	struct probe_record probe_record;
} described_types = {};

struct node_config_map node_config SEC(".maps");
struct peers_map peers SEC(".maps");
struct peer_addresses_map peer_addresses SEC(".maps");
struct peer_paths_map peer_paths SEC(".maps");
struct peer_gateways_map peer_gateways SEC(".maps");
struct routes_map routes SEC(".maps");
struct endpoints_map endpoints SEC(".maps");
struct source_addresses_map source_addresses SEC(".maps");
struct frontends_map frontends SEC(".maps");
struct services_map services SEC(".maps");
struct service_slots_map service_slots SEC(".maps");
struct backends_map backends SEC(".maps");
struct backend_states_map backend_states SEC(".maps");
struct service_ranges_map service_ranges SEC(".maps");
struct identities_map identities SEC(".maps");
struct blocks_map blocks SEC(".maps");
struct class_limit_map class_limit SEC(".maps");
struct policies_map policies SEC(".maps");
struct policy_verdicts_map policy_verdicts SEC(".maps");
struct port_sets_map port_sets SEC(".maps");
struct element_writes_map element_writes SEC(".maps");

struct service_affinity_map service_affinity SEC(".maps");
struct next_hops_map next_hops SEC(".maps");
struct next_hop_settle_map next_hop_settle SEC(".maps");
struct flow_index_map flow_index SEC(".maps");
struct flows_map flows SEC(".maps");
struct flow_hints_map flow_hints SEC(".maps");
struct flow_counts_map flow_counts SEC(".maps");
struct flow_rules_map flow_rules SEC(".maps");
struct rule_counters_map rule_counters SEC(".maps");
struct policy_denials_map policy_denials SEC(".maps");
struct fragments_map fragments SEC(".maps");
struct fragment_places_map fragment_places SEC(".maps");
struct fragment_turns_map fragment_turns SEC(".maps");
struct drops_map drops SEC(".maps");
struct events_map events SEC(".maps");
struct peer_counters_map peer_counters SEC(".maps");
struct probe_events_map probe_events SEC(".maps");
struct path_proofs_map path_proofs SEC(".maps");
struct peer_activity_map peer_activity SEC(".maps");
struct slow_path_map slow_path SEC(".maps");
struct slow_path_buckets_map slow_path_buckets SEC(".maps");
struct scratch_map scratch SEC(".maps");
struct verdicts_map verdicts SEC(".maps");

const char license_text[] SEC("license") = "Dual BSD/GPL";
