/**
 * The area of this Node, on which all others depend: its object, its transport
 * addresses, the relevant parts of the kernel's network. It changes with the configuration, the network and this
 * Node's object only.
 */
import type { Snapshot } from "../cluster/snapshot.js";
import { type Config, type FlowTimeouts, tunnelPort } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { macWord, parseAddress } from "../tables/address.js";
import type { TableValues } from "../tables/changes.js";
import { FlowState, Limit, NodeFlag, RouteFlag, RouteKind } from "../tables/generated.js";
import {
	containsAddress,
	hostPrefix,
	overlap,
	type Prefix,
	parsePrefix,
} from "../tables/prefix.js";
import type { Tables } from "../tables/tables.js";
import { KernelRoutes } from "./kernel_routes.js";
import { sourcesOf } from "./peer.js";
import type { PathContext } from "./peer_path.js";
import { linkInterfaces, podMtu, Self, snatAddress, wireInterfaces } from "./self.js";
import { sourceAddresses } from "./source_addresses.js";
import { selectTransport } from "./transport.js";

/** This Node, for status and CNI. Addresses without prefix length. */
export interface SelfView {
	node: string;
	podCIDRs: string[];
	transport: { interface: string; addresses: string[]; mtu: number };
	/** The first address of each pod CIDR, in the order of podCIDRs. */
	gateways: string[];
	gatewayMac: string;
	/** MTU for Pod interfaces. */
	podMTU: number;
	/** The source address of Pod packets to the outside; "": none (of that family). */
	snat: { address4: string; address6: string };
}

/** Replaced, never changed. */
export interface OwnNode {
	config: Config;
	/**
	 * With Services: service CIDRs. Without: wherever Services are, which are for the Node's own stack to serve.
	 */
	services: readonly Prefix[];
	self: Self;
	/** What the choice of a peer's path depends on. */
	context: PathContext;
	view: SelfView;
	problems: string[];
	sourceAddresses: Tables["sourceAddresses"];
	/** All that is no map; of node_config without the flag of route MTUs. */
	values: TableValues;
}

/** This Node cannot be compiled. `reason` says what is missing ("a Node object ..."). */
export interface NotReady {
	ready: false;
	reason: string;
	problems: string[];
}

/** Packets a second that the slow path takes of all Pods together, beyond the share of each. */
const SLOW_PATH_RATE = 2000;

/**
 * What this Node's own processes send from to an endpoint that is this Node itself. Link-local and unique
 * local (RFC 3927, RFC 4193): they never leave the Node.
 */
export const RETURN_ADDRESSES = {
	returnAddress4: "169.254.250.28",
	returnAddress6: "fd66:6169:7277::28",
};

/** What it is made of. */
export interface OwnNodeInput {
	config: Config;
	snapshot: Pick<Snapshot, "nodes"> & Partial<Pick<Snapshot, "services" | "synced">>;
	network: Network;
	nodeName: string;
}

export function ownNode({
	config,
	snapshot,
	network,
	nodeName,
}: OwnNodeInput): { ready: true; own: OwnNode } | NotReady {
	const node = snapshot.nodes.get(nodeName);
	if (node === undefined)
		return notReady(
			`a usable Node object named ${nodeName}, ${snapshot.synced === false ? "the cluster has not told all of them yet" : "the cluster has none"}`,
			[],
		);
	const kernel = new KernelRoutes(network.routes);
	const { transport, problems } = selectTransport(config, node, network, kernel);
	if (transport === undefined)
		return notReady(`a transport address: ${problems.join("; ") || "the Node has none"}`, problems);
	const self = new Self(node, transport, network);
	const mtu = podMtu(config, transport, self.podCidrs);
	const snat = {
		address4: snatAddress(4, transport, node, network, kernel),
		address6: snatAddress(6, transport, node, network, kernel),
	};
	const wires = wireInterfaces(network, transport, kernel);
	const { enable, proxyAll, externalClusterIP } = config.fairwayProxy;
	const claimed = [
		...config.serviceCIDRs.map(parsePrefix),
		...servicePrefixes(config, snapshot.services ?? []),
	];
	const { services, refused } = apartFromNode(claimed, self, transport.addresses);
	// With Services, only while the stack has some of them (`valuesWith`), or all NodePorts.
	const stackSnat = (enable ? !proxyAll : services.length > 0) && !config.noSNAT;
	const own: OwnNode = {
		config,
		services,
		self,
		context: { config, transport, routes: kernel, network, ownAddresses: self.addresses },
		problems: [...problems, ...mtu.problems, ...refused],
		sourceAddresses: sourceAddresses(network),
		view: {
			node: nodeName,
			podCIDRs: [...node.podCIDRs],
			transport: {
				interface: transport.interface,
				addresses: transport.addresses,
				mtu: transport.mtu,
			},
			gateways: self.gateways,
			gatewayMac: self.gatewayMac,
			podMTU: mtu.value,
			snat,
		},
		values: {
			nodeConfig: {
				flags:
					NodeFlag.CONFIGURED |
					(config.noSNAT ? 0 : NodeFlag.SNAT) |
					(stackSnat ? NodeFlag.STACK_SNAT : 0) |
					(enable && proxyAll ? NodeFlag.SERVES_ALL : 0) |
					(enable && externalClusterIP ? NodeFlag.SERVES_CLUSTER_IPS : 0) |
					(config.trafficEncapMode === "encap" ? 0 : NodeFlag.SENDS_UNTUNNELLED),
				vni: config.tunnelVNI,
				snatAddress4: snat.address4,
				snatAddress6: snat.address6,
				gatewayAddress4: self.gateway(4),
				gatewayAddress6: self.gateway(6),
				...RETURN_ADDRESSES,
				gatewayMac: self.gatewayMac,
				snatPortFirst: config.snat.portRange.first,
				snatPortLast: config.snat.portRange.last,
				genevePort: config.tunnelType === "geneve" ? tunnelPort(config) : 0,
				vxlanPort: config.tunnelType === "vxlan" ? tunnelPort(config) : 0,
				transportMtu: transport.mtu,
				slowPathRate: SLOW_PATH_RATE,
				flowTimeouts: flowTimeouts(config.flows.timeouts),
				wireMacs: wireMacs(network, wires),
			},
			gatewayAddresses: self.gateways,
			gatewayMac: self.gatewayMac,
			wireInterfaces: wires,
			linkInterfaces: linkInterfaces(network, wires),
			stackSnat,
			stackAnswers: false,
			xdp: config.xdp,
			tunnelPort: config.trafficEncapMode === "noEncap" ? 0 : tunnelPort(config),
		},
	};
	return { ready: true, own };
}

function notReady(reason: string, problems: string[]): NotReady {
	return { ready: false, reason, problems };
}

/**
 * @param hasRouteMtu some route has an MTU of its own
 * @param hasStackRoutes some Service is the Node's own stack's
 * @param hasOwnEndpoints some Service has this Node itself as an endpoint
 */
export function valuesWith(
	{ config, values }: OwnNode,
	{
		hasRouteMtu,
		hasStackRoutes,
		hasOwnEndpoints,
	}: { hasRouteMtu: boolean; hasStackRoutes: boolean; hasOwnEndpoints: boolean },
): TableValues {
	const { nodeConfig } = values;
	const stackAnswers = hasOwnEndpoints && (nodeConfig.flags & NodeFlag.SERVES_ALL) !== 0;
	const stackSnat = values.stackSnat || (hasStackRoutes && !config.noSNAT);
	const flags =
		nodeConfig.flags |
		(hasRouteMtu ? NodeFlag.ROUTE_MTU : 0) |
		(stackSnat ? NodeFlag.STACK_SNAT : 0) |
		(stackAnswers ? NodeFlag.STACK_ANSWERS : 0);
	return { ...values, stackSnat, stackAnswers, nodeConfig: { ...nodeConfig, flags } };
}

/**
 * Service CIDRs apart from this Node's pod CIDRs and from the addresses that other Nodes know it by: in an
 * overlap Services, Pods and Nodes could not be told apart. Other addresses of the Node may be cluster IPs
 * (NodeLocal DNSCache, kube-ipvs0).
 */
function apartFromNode(
	claimed: readonly Prefix[],
	{ node, podCidrs }: Self,
	transportAddresses: readonly string[],
): { services: Prefix[]; refused: string[] } {
	const refused: string[] = [];
	const addresses = [...new Set([...node.internalIPs, ...transportAddresses])];
	const services = claimed.filter((cidr) => {
		if (isAddress(cidr)) return true;
		const pods = podCidrs.find((prefix) => overlap(cidr, prefix));
		const address = addresses.find((text) => containsAddress(cidr, parseAddress(text)!));
		if (pods === undefined && address === undefined) return true;
		const [wanted, got] =
			pods === undefined
				? ["the addresses of Nodes", `holds ${address}`]
				: ["pod CIDRs", `overlaps ${pods.text}`];
		refused.push(
			`Cannot serve the service CIDR ${cidr.text}: expected one apart from ${wanted}, got one that ${got} of this Node`,
		);
		return false;
	});
	return { services, refused };
}

/** The Service prefixes that this Node's tables depend on: where Fairway serves Services, only the CIDRs. */
export function servicePrefixes(
	{ fairwayProxy }: Config,
	prefixes: readonly Prefix[],
): readonly Prefix[] {
	if (!fairwayProxy.enable) return prefixes;
	// A prefix of one address belongs to a single Service.
	return prefixes.filter((prefix) => !isAddress(prefix));
}

function isAddress({ family, length }: Prefix): boolean {
	return length === (family === 4 ? 32 : 128);
}

export interface OwnPrefix {
	prefix: Prefix;
	kind: RouteKind;
	/** RouteFlag */
	flags: number;
}

/**
 * The prefixes of this Node in routes, in order of precedence: its addresses, its Pods, and after those of
 * peers the service CIDRs, or what of Services its own stack serves.
 */
export function ownPrefixes({ config, self, services, context }: OwnNode): {
	before: OwnPrefix[];
	after: OwnPrefix[];
} {
	const { enable, proxyAll, nodePortAddresses } = config.fairwayProxy;
	const ranges = nodePortAddresses.map(parsePrefix);
	const hasNodePorts = (address: string, bytes: Uint8Array) => {
		if (!enable || !proxyAll) return false;
		return ranges.length === 0
			? !self.gateways.includes(address)
			: ranges.some((range) => containsAddress(range, bytes));
	};
	const known = sourcesOf(self.node);
	const ends = new Set([...known, ...self.gateways, ...context.transport.addresses]);
	const hosts = [...self.gateways, ...self.addresses].flatMap((address): OwnPrefix[] => {
		const bytes = parseAddress(address);
		if (bytes === undefined) return [];
		const flags =
			(hasNodePorts(address, bytes) ? RouteFlag.NODE_PORTS : 0) |
			(known.has(address) ? RouteFlag.PEERS_KNOW : 0) |
			(ends.has(address) ? 0 : RouteFlag.NO_TUNNELS);
		return [{ prefix: hostPrefix(bytes), kind: RouteKind.HOST, flags }];
	});
	const pods = self.podCidrs.map((prefix) => ({ prefix, kind: RouteKind.LOCAL_PODS, flags: 0 }));
	const kind = enable ? RouteKind.SERVICE : RouteKind.STACK;
	return {
		before: [...hosts, ...pods],
		after: services.map((prefix) => ({ prefix, kind, flags: 0 })),
	};
}

/** Each once, as `struct next_hop` has them. What has no room is told by the kernel, behind XDP. */
function wireMacs(network: Network, wires: readonly string[]): bigint[] {
	const own = network.interfaces.filter(({ name, mac }) => wires.includes(name) && mac !== "");
	const macs = [...new Set(own.map(({ mac }) => macWord(mac)))];
	return Array.from({ length: Limit.WIRE_MACS_MAX }, (_, index) => macs[index] ?? 0n);
}

/** By enum flow_state: FLOW_TCP_OPENING is tcpOpening. */
function flowTimeouts(timeouts: FlowTimeouts): number[] {
	const seconds = Array<number>(FlowState.STATE_COUNT).fill(0);
	for (const [name, state] of Object.entries(FlowState)) {
		const key = name.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
		const value = (timeouts as unknown as Partial<Record<string, number>>)[key];
		if (value !== undefined) seconds[state] = value;
	}
	return seconds;
}
