/** The API's views of the agent's state. */
import { release } from "node:os";
import type { EndpointStatus, PeerStatus, Status } from "../api/messages.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { PeerView } from "../compile/compile.js";
import type { Config } from "../config/config.js";
import { peerIndex } from "../forwarder/route.js";
import type { Lag } from "../observe/loop_lag.js";
import type { PeerCounters, Reconciler } from "../reconcile/reconciler.js";
import type { SlowPathCounters } from "../slowpath/slow_path.js";
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

/** By index in peers: peer id * 2 + (1 for IPv6). */
export type PathFactsOf = (index: number) => PathFacts | undefined;

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
	kernel: Pick<Reconciler, "counters" | "mapMemory" | "problems" | "xdpMode"> & {
		readonly libbpf: string;
		slowPath(): SlowPathCounters;
	};
	endpoints: number;
	uptimeSeconds: number;
	eventLoop: Lag;
	problems: string[];
}

export function statusOf(input: StatusInput): Status {
	const { config, inForce, kernel } = input;
	const self = inForce?.self;
	const { drops, events } = kernel.counters();
	const peers = inForce?.peers ?? [];
	const paths: Status["peers"]["paths"] = {};
	for (const { path } of peers) {
		paths[path] = (paths[path] ?? 0) + 1;
	}
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
		peers: { nodes: new Set(peers.map(({ node }) => node)).size, paths },
		probes: input.probes,
		endpoints: input.endpoints,
		flows: input.flows,
		mapMemory: kernel.mapMemory(),
		drops: nonZero(drops),
		events: nonZero(events),
		slowPath: nonZero({ ...kernel.slowPath() }),
		eventLoop: input.eventLoop,
		pending: kernel.problems().length,
		problems: input.problems,
	};
}

function nonZero(counts: Readonly<Record<string, bigint | number>>): Record<string, number> {
	return Object.fromEntries(
		Object.entries(counts)
			.filter(([, count]) => count > 0)
			.map(([name, count]) => [name, Number(count)]),
	);
}

/** @param now epoch, ms: since when a path is in force of which nothing else is known */
export function peerStatus(
	peers: readonly PeerView[],
	counters: PeerCounters,
	pathFacts: PathFactsOf,
	now: number,
): PeerStatus[] {
	return peers.map(({ id, ...peer }) => {
		const index = peerIndex(id, peer.family);
		const count = counters.get(index);
		const facts = pathFacts(index);
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
			since: new Date(facts?.since ?? now).toISOString(),
			changes: facts?.changes ?? 0,
			roundTripMs: facts?.roundTripMs ?? null,
			loss: facts?.loss ?? null,
			probes: facts?.probes ?? { sent: 0, answered: 0, late: 0 },
		};
	});
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
