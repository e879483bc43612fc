/** The API's views of the agent's state. */
import { release } from "node:os";
import type { EndpointStatus } from "../api/messages/endpoints.js";
import type { PeerStatus } from "../api/messages/peers.js";
import type { Status } from "../api/messages/status.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { PeerView } from "../compile/compile.js";
import type { Config } from "../config/config.js";
import { limitations } from "../config/proxy_rule.js";
import type { Lag } from "../observe/loop_lag.js";
import type { Readings } from "../reconcile/maps/readings.js";
import type { Reconciler } from "../reconcile/reconciler.js";
import type { SlowPathCounters } from "../slowpath/slow_path.js";
import type { PeerCounter } from "../tables/generated.js";
import { version } from "../text/version.js";
import type { InForce } from "./state.js";

/** Facts about a peer's path in one family, in addition to what was compiled. */
export interface PathFacts {
	/** When the path was put into use; epoch, ms. */
	since: number;
	changes: number;
	roundTripMs: number | null;
	/** 0..1 */
	loss: number | null;
	probes: { sent: number; answered: number; late: number };
}

export interface StatusInput {
	nodeName: string;
	ready: boolean;
	waitingFor: string | undefined;
	config: Config;
	inForce: InForce | undefined;
	/** Slots of the flow table: used and total. */
	flows: { used: number; max: number };
	/** Over all peers. */
	probes: Status["probes"];
	kernel: Pick<Reconciler, "mapMemory" | "problems" | "serviceEntriesUsed" | "xdpMode"> &
		Pick<Readings, "counters"> & {
			readonly libbpf: string;
			slowPath(): SlowPathCounters;
		};
	endpoints: number;
	uptimeSeconds: number;
	eventLoop: Lag;
	sources: Status["sources"];
	services: Pick<Status["services"], "endpoints"> & { services: number };
	policies: Status["policies"];
	problems: string[];
}

export function statusOf(input: StatusInput): Status {
	const { config, inForce, kernel } = input;
	const self = inForce?.self;
	const { drops, events } = kernel.counters();
	return {
		node: input.nodeName,
		ready: input.ready,
		...(input.waitingFor === undefined ? {} : { waitingFor: input.waitingFor }),
		mode: config.trafficEncapMode,
		tunnelType: config.tunnelType,
		xdp: kernel.xdpMode(),
		podCIDRs: self?.podCIDRs ?? [],
		transport: self?.transport ?? { interface: "", addresses: [], mtu: 0 },
		podMTU: self?.podMTU ?? 0,
		snatAddresses:
			self === undefined || config.noSNAT
				? []
				: [self.snat.address4, self.snat.address6].filter((address) => address !== ""),
		version: version(),
		kernel: release(),
		libbpf: kernel.libbpf,
		pid: process.pid,
		uptimeSeconds: Math.round(input.uptimeSeconds),
		peers: {
			nodes: inForce?.peers.nodes ?? 0,
			paths: Object.fromEntries(inForce?.peers.paths ?? []),
		},
		probes: input.probes,
		endpoints: input.endpoints,
		flows: input.flows,
		services: {
			servedBy: servedBy(config),
			count: input.services.services,
			endpoints: input.services.endpoints,
			...kernel.serviceEntriesUsed(),
		},
		policies: input.policies,
		mapMemory: kernel.mapMemory(),
		drops: nonZero(drops),
		events: nonZero(events),
		slowPath: nonZero({ ...kernel.slowPath() }),
		eventLoop: input.eventLoop,
		sources: input.sources,
		pending: kernel.problems().length,
		problems: input.problems,
		limitations: limitations(config),
	};
}

/** Which proxy serves the Services of this Node, in sentences. */
function servedBy({ fairwayProxy: proxy }: Config): string[] {
	if (!proxy.enable)
		return ["Another proxy (kube-proxy) serves all Services: fairwayProxy.enable is false."];
	const pods = proxy.proxyLoadBalancerIPs ? "cluster IPs and load balancer IPs" : "cluster IPs";
	if (!proxy.proxyAll)
		return [
			`Fairway serves ${pods} for Pods.`,
			"Another proxy (kube-proxy) serves NodePorts, all that comes from outside, and the Node's own processes: fairwayProxy.proxyAll is false.",
		];
	const left =
		proxy.skipServices.length === 0
			? []
			: [
					`Left to the Node's own stack (fairwayProxy.skipServices): ${proxy.skipServices.join(", ")}.`,
				];
	return ["Fairway serves all Services; kube-proxy is not needed.", ...left];
}

function nonZero(counts: Readonly<Record<string, bigint | number>>): Record<string, number> {
	return Object.fromEntries(
		Object.entries(counts)
			.filter(([, count]) => count > 0)
			.map(([name, count]) => [name, Number(count)]),
	);
}

export function peerStatus(
	{ id: _, ...peer }: PeerView,
	count: PeerCounter | undefined,
	facts: PathFacts,
): PeerStatus {
	const received = Number(count?.receivedPackets ?? 0n);
	const fromTunnel = Number(count?.receivedTunnelPackets ?? 0n);
	return {
		...peer,
		packets: {
			direct: Number(count?.directPackets ?? 0n),
			tunnel: Number(count?.tunnelPackets ?? 0n),
		},
		bytes: {
			direct: Number(count?.directBytes ?? 0n),
			tunnel: Number(count?.tunnelBytes ?? 0n),
		},
		// Counters are not read at one moment, so a part may exceed the total.
		received: { direct: Math.max(0, received - fromTunnel), tunnel: fromTunnel },
		since: new Date(facts.since).toISOString(),
		changes: facts.changes,
		roundTripMs: facts.roundTripMs,
		loss: facts.loss,
		probes: facts.probes,
	};
}

export function endpointStatus(endpoint: Endpoint): EndpointStatus {
	const { containerId, ifName, netns, addresses, mac, hostInterface, namespace, name } = endpoint;
	return {
		containerId,
		ifName,
		netns,
		addresses,
		mac,
		hostInterface,
		...(namespace === undefined ? {} : { namespace }),
		...(name === undefined ? {} : { name }),
	};
}
