/**
 * Every metric of the Node: name, type, meaning, labels, and how it is read from the agent's own answers.
 * docs/METRICS.md is generated from this list, that of peers (peer_metrics.ts) and the histograms (durations.ts).
 */
import type { PeerStatus } from "../api/messages/peers.js";
import type { Status } from "../api/messages/status.js";
import { DropReason, DropReasonName, Limit } from "../tables/generated.js";
import type { Described } from "./described.js";
import { CNI_DURATION, POLICY_LATENCY, SERVICE_LATENCY } from "./durations.js";
import { type PeerCount, peerMetrics } from "./peer_metrics.js";

export interface Sample {
	status: Status;
	peers: readonly PeerStatus[];
	/** Number of source ports that translated flows share, for each address and destination. */
	snatPorts: number;
	/** What live flows have of them. */
	snatUse: readonly SnatUse[];
	/** By policy and direction, since the agent's start. */
	policies: readonly PolicyTotals[];
	/** Live flows by Service ("namespace/name"), for the Services in fairwayProxy.countFlows. */
	serviceFlows: ReadonlyMap<string, number>;
	process: { cpuSeconds: number; residentBytes: number; heapBytes: number };
}

export interface SnatUse {
	/** The Node's, that the outside sees. */
	address: string;
	/** "tcp", "udp" or "icmp". */
	protocol: string;
	/** Ports that a live flow has. */
	ports: number;
	/** Towards the destination that has most. */
	busiest: number;
}

export interface PolicyTotals {
	/** "namespace/name", or a ClusterNetworkPolicy's name; "": all others together. */
	policy: string;
	direction: "egress" | "ingress";
	flows: number;
	denied: number;
	/** Counts as if its staged rules were enforced. */
	wouldAllow: number;
	wouldDeny: number;
}

type Labels = Readonly<Record<string, string>>;
export type Series = readonly [labels: Labels, value: number];

/** Read once a scrape. */
export interface Metric extends Described {
	read: (sample: Sample, counts: readonly PeerCount[]) => Iterable<Series>;
}

const NONE: readonly string[] = [];
const one = (value: number): Series[] => [[{}, value]];
const each = (label: string, counts: Readonly<Record<string, number>>): Series[] =>
	Object.entries(counts).map(([name, value]) => [{ [label]: name }, value]);

function gauge(
	name: string,
	help: string,
	labels: readonly string[],
	read: Metric["read"],
): Metric {
	return { name: `fairway_${name}`, type: "gauge", help, labels, read };
}

function counter(
	name: string,
	help: string,
	labels: readonly string[],
	read: Metric["read"],
): Metric {
	return { name: `fairway_${name}_total`, type: "counter", help, labels, read };
}

const SNAT = ["address", "protocol"] as const;
const SNAT_PROTOCOLS = ["tcp", "udp", "icmp"];
/** A series for each of the Node's addresses that SNAT uses, and for others that flows still have. */
function ofSnat(
	{ status, snatPorts, snatUse }: Sample,
	value: (use: SnatUse, all: number) => number,
): Series[] {
	const key = ({ address, protocol }: Pick<SnatUse, "address" | "protocol">) =>
		`${address} ${protocol}`;
	const uses = new Map<string, SnatUse>();
	for (const address of status.snatAddresses)
		for (const protocol of SNAT_PROTOCOLS) {
			const none = { address, protocol, ports: 0, busiest: 0 };
			uses.set(key(none), none);
		}
	for (const use of snatUse) uses.set(key(use), use);
	return [...uses.values()].map((use): Series => {
		const { address, protocol } = use;
		return [{ address, protocol }, value(use, snatPorts)];
	});
}

const POLICY = ["policy", "direction"] as const;
const OF_POLICY =
	'The first 250 policies with a count have series of their own; all others share policy "".';
const ofPolicies = (
	policies: readonly PolicyTotals[],
	value: (totals: PolicyTotals) => number,
): Series[] =>
	policies.map((totals) => [{ policy: totals.policy, direction: totals.direction }, value(totals)]);

const drops = Object.fromEntries(
	Object.entries(DropReasonName)
		.filter(([number]) => Number(number) !== DropReason.NONE)
		.map(([, name]) => [name, 0]),
);

export const metrics: readonly Metric[] = [
	gauge(
		"build_info",
		"Always 1; the labels are the versions that run.",
		["version", "kernel", "libbpf", "node_js"],
		({ status: { version, kernel, libbpf } }) => [
			[{ version, kernel, libbpf, node_js: process.version }, 1],
		],
	),
	gauge("ready", "1 when packets flow on this Node.", NONE, ({ status }) =>
		one(Number(status.ready)),
	),
	gauge(
		"mode_info",
		"Always 1; the labels are the settings in force.",
		["mode", "tunnel_type", "xdp"],
		({ status: { mode, tunnelType, xdp } }) => [[{ mode, tunnel_type: tunnelType, xdp }, 1]],
	),
	gauge("problems", "Current problems; `fairway status` describes them.", NONE, ({ status }) =>
		one(status.problems.length),
	),
	gauge(
		"pending_writes",
		"Writes that the kernel refused and that are retried.",
		NONE,
		({ status }) => one(status.pending),
	),
	gauge("uptime_seconds", "Time since the agent's start.", NONE, ({ status }) =>
		one(status.uptimeSeconds),
	),
	gauge("nodes", "Other Nodes of the cluster.", NONE, ({ status }) => one(status.peers.nodes)),
	gauge(
		"peers",
		"Peers (a Node in one family) by path and reason. Numbers, addresses and names are left out of the reason.",
		["path", "reason"],
		(_, counts) => counts.map(({ path, reason, count }) => [{ path, reason }, count]),
	),
	gauge("endpoints", "Pod interfaces of this Node.", NONE, ({ status }) => one(status.endpoints)),
	gauge("flows", "Entries in use in the flow table.", NONE, ({ status }) => one(status.flows.used)),
	gauge(
		"snat_ports",
		"SNAT source ports available for the flows to one destination (the size of snat.portRange).",
		NONE,
		({ snatPorts }) => one(snatPorts),
	),
	gauge(
		"snat_ports_used",
		"SNAT source ports of this address and protocol that live flows use towards any destination.",
		SNAT,
		(sample) => ofSnat(sample, ({ ports }) => ports),
	),
	gauge(
		"snat_ports_free",
		"SNAT source ports of this address and protocol that no live flow uses. A used port is still free towards other destinations, so no flow is refused only because this is 0.",
		SNAT,
		(sample) => ofSnat(sample, ({ ports }, all) => Math.max(0, all - ports)),
	),
	gauge(
		"snat_ports_used_by_destination_max",
		"SNAT source ports of this address and protocol in use towards one destination (address and port): the highest number of all destinations. Near fairway_snat_ports, new flows to that destination are refused; fairway_drops_total counts them as snat_ports_exhausted.",
		SNAT,
		(sample) => ofSnat(sample, ({ busiest }) => busiest),
	),
	gauge(
		"map_fill_ratio",
		"Share of a table in use, 0 to 1; for tables of network policy, the share of the entries that may be in force at once.",
		["map"],
		({ status: { flows, endpoints, peers, services, policies } }) =>
			each("map", {
				backends: services.backends / Limit.BACKENDS_MAX,
				blocks: policies.blocks / Limit.BLOCKS_MAX,
				endpoints: endpoints / Limit.ENDPOINTS_MAX,
				flows: flows.max === 0 ? 0 : flows.used / flows.max,
				frontends: services.frontends / Limit.FRONTENDS_MAX,
				identities: policies.identities / Limit.IDENTITIES_MAX,
				peers: peers.nodes / Limit.PEERS_MAX,
				// New entries are written beside the old ones, so half of the table may be in force (src/policy/limits.ts).
				policies: policies.policies / (Limit.POLICIES_MAX / 2),
				policy_rules: policies.rules / Limit.POLICY_RULES_MAX,
				policy_verdicts: policies.policyVerdicts / (Limit.POLICY_VERDICTS_MAX / 2),
				port_sets: policies.portSets / (Limit.PORT_SETS_MAX / 2),
				service_ranges: services.sourceRanges / Limit.SERVICE_RANGES_MAX,
				service_slots: services.slots / Limit.SERVICE_SLOTS_MAX,
				services: services.ports / Limit.SERVICES_MAX,
			}),
	),
	gauge("services", "Services that Fairway serves here.", NONE, ({ status }) =>
		one(status.services.count),
	),
	gauge(
		"service_ports",
		"Ports of these Services, counted once for each family.",
		NONE,
		({ status }) => one(status.services.ports),
	),
	gauge(
		"service_endpoints",
		"Endpoints of these ports by state: ready, serving, terminating, unready.",
		["state"],
		({ status }) => each("state", status.services.endpoints),
	),
	gauge(
		"service_backends",
		"Endpoints in the tables, including removed ones whose id is not free yet.",
		NONE,
		({ status }) => one(status.services.backends),
	),
	gauge(
		"policies",
		"Network policies that select a Pod of this Node, by state: enforced, staged, unusable (their Pods are closed).",
		["state"],
		({ status: { policies } }) =>
			each("state", {
				enforced: policies.enforced,
				staged: policies.staged,
				unusable: policies.unusable,
			}),
	),
	gauge(
		"policy_endpoints",
		"Pods of this Node by the state of their network policy: open (no policy isolates them and no rule applies to them), ruled, not_ready (closed until their policies are known).",
		["state"],
		({ status: { policies } }) =>
			each("state", {
				open: policies.pods.open,
				ruled: policies.pods.ruled,
				not_ready: policies.pods.notReady,
			}),
	),
	gauge(
		"policy_problems",
		"Limits of network policy that are reached, and policies that cannot be written; `fairway status` describes them.",
		NONE,
		({ status }) => one(status.policies.problems),
	),
	counter(
		"policy_flows",
		`Flows that a policy's rules have allowed, since the agent's start. ${OF_POLICY}`,
		POLICY,
		({ policies }) => ofPolicies(policies, ({ flows }) => flows),
	),
	counter(
		"policy_denied",
		`Packets that a policy has denied, by a rule or by isolation. A denial by isolation counts for the first policy, by name, that isolates the Pod. ${OF_POLICY}`,
		POLICY,
		({ policies }) => ofPolicies(policies, ({ denied }) => denied),
	),
	counter(
		"policy_staged",
		`Flows that would be denied, or allowed, if a staged policy were enforced. ${OF_POLICY}`,
		[...POLICY, "would"],
		({ policies }) =>
			policies.flatMap(({ policy, direction, wouldAllow, wouldDeny }) => [
				...(wouldAllow > 0 ? [[{ policy, direction, would: "allow" }, wouldAllow] as const] : []),
				...(wouldDeny > 0 ? [[{ policy, direction, would: "deny" }, wouldDeny] as const] : []),
			]),
	),
	gauge("map_bytes", "Kernel memory of a BPF map.", ["map"], ({ status }) =>
		each("map", status.mapMemory.maps),
	),
	counter(
		"drops",
		"Dropped packets; docs/COUNTERS.md lists the reasons.",
		["reason"],
		({ status }) => each("reason", { ...drops, ...status.drops }),
	),
	counter(
		"events",
		"Counted events other than drops; docs/COUNTERS.md lists them.",
		["event"],
		({ status }) => each("event", status.events),
	),
	counter(
		"slow_path_packets",
		"Packets in the slow path by result, since the agent's start.",
		["outcome"],
		({ status }) => each("outcome", status.slowPath),
	),
	gauge(
		"event_loop_lag_seconds",
		"Lag of the agent's event loop within the last minute, by quantile; 1 is the maximum.",
		["quantile"],
		({ status: { eventLoop } }) =>
			each("quantile", {
				"0.5": eventLoop.p50Ms / 1000,
				"0.99": eventLoop.p99Ms / 1000,
				"0.999": eventLoop.p999Ms / 1000,
				"1": eventLoop.maxMs / 1000,
			}),
	),
	gauge(
		"source_synced",
		"1 when all objects of the kind have been seen since the agent's start.",
		["kind"],
		({ status }) => status.sources.map(({ kind, synced }) => [{ kind }, Number(synced)]),
	),
	gauge(
		"source_stale",
		"1 while the objects in force are the last known ones, because the API cannot be read.",
		["kind"],
		({ status }) => status.sources.map(({ kind, stale }) => [{ kind }, Number(stale)]),
	),
	gauge(
		"source_age_seconds",
		"Time since the last list, event or bookmark of the kind; absent before the first.",
		["kind"],
		({ status }) =>
			status.sources.flatMap(({ kind, ageSeconds }) =>
				ageSeconds === null ? [] : [[{ kind }, ageSeconds] as const],
			),
	),
	counter("source_reconnects", "Watches that were lost and restarted.", ["kind"], ({ status }) =>
		status.sources.map(({ kind, reconnects }) => [{ kind }, reconnects]),
	),
	{
		name: "process_cpu_seconds_total",
		type: "counter",
		help: "CPU time of the agent's process.",
		labels: NONE,
		read: ({ process }) => one(process.cpuSeconds),
	},
	{
		name: "process_resident_memory_bytes",
		type: "gauge",
		help: "Resident memory of the agent's process.",
		labels: NONE,
		read: ({ process }) => one(process.residentBytes),
	},
	gauge(
		"service_flows",
		"Live flows by Service, for the Services in fairwayProxy.countFlows that are served.",
		["namespace", "service"],
		({ serviceFlows }) =>
			[...serviceFlows].map(([key, flows]): Series => {
				const [namespace = "", service = ""] = key.split("/");
				return [{ namespace, service }, flows];
			}),
	),
	gauge("heap_bytes", "JavaScript heap in use.", NONE, ({ process }) => one(process.heapBytes)),
];

export const described: readonly Described[] = [
	...metrics,
	...peerMetrics,
	CNI_DURATION,
	SERVICE_LATENCY,
	POLICY_LATENCY,
];
