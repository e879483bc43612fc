/** What the API says about the state of the agent. */
import { release } from "node:os";
import type { EndpointStatus, PeerStatus, Status } from "../api/messages.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { PeerView } from "../compile/compile.js";
import type { Config } from "../config/config.js";
import type { Counters } from "../reconcile/reconciler.js";
import type { InForce } from "./agent.js";
import type { Kernel } from "./kernel.js";
import { version } from "./version.js";

export interface StatusInput {
	nodeName: string;
	ready: boolean;
	waitingFor: string | undefined;
	config: Config;
	inForce: InForce | undefined;
	/** Slots of the flow table. */
	flowsMax: number;
	kernel: Pick<Kernel, "counters" | "flowsUsed" | "libbpf" | "problems" | "slowPath" | "xdpMode">;
	endpoints: number;
	uptimeSeconds: number;
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
		endpoints: input.endpoints,
		flows: { used: kernel.flowsUsed(), max: input.flowsMax },
		drops: nonZero(drops),
		events: nonZero(events),
		slowPath: nonZero({ ...kernel.slowPath() }),
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

export function peerStatus(peers: readonly PeerView[], counters: Counters["peers"]): PeerStatus[] {
	return peers.map(({ id, ...peer }) => {
		const sent = counters.get(id * 2 + (peer.family === 6 ? 1 : 0));
		return {
			...peer,
			packets: {
				direct: Number(sent?.directPackets ?? 0n),
				tunnel: Number(sent?.tunnelPackets ?? 0n),
			},
			bytes: {
				direct: Number(sent?.directBytes ?? 0n),
				tunnel: Number(sent?.tunnelBytes ?? 0n),
			},
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
