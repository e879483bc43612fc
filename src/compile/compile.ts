/**
 * Compiles configuration, cluster, kernel network, local Pods and probe results into the desired tables.
 * Pure: no I/O, no clock.
 *
 *  1. this Node: its object, its transport addresses, its views for others
 *  2. peers: a path for each family, with the reason
 *  3. routes: the owner of each prefix
 *  4. local Pods
 *  5. what the Node's own stack needs: host routes, gateway, interfaces to watch
 */
import type { Snapshot } from "../cluster/snapshot.js";
import { type Config, type FlowTimeouts, tunnelPort } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { atOnce, inTurns, type Steps } from "../loop/turns.js";
import { macWord, parseAddress } from "../tables/address.js";
import { FlowState, Limit, NodeFlag, RouteKind } from "../tables/generated.js";
import { hostPrefix, parsePrefix } from "../tables/prefix.js";
import type { HeldPeers, Tables } from "../tables/tables.js";
import { holdPeers } from "./held_peers.js";
import { KernelRoutes } from "./kernel_routes.js";
import { type PathVerdicts, PeerTables, type PeerView, type ProbedPeer } from "./peer_tables.js";
import { RouteTable } from "./route_table.js";
import { linkInterfaces, podMtu, Self, snatAddress, wireInterfaces } from "./self.js";
import { sourceAddresses } from "./source_addresses.js";
import { selectTransport } from "./transport.js";

export type { PathVerdict } from "./peer_path.js";
export type { PeerView, ProbedPeer } from "./peer_tables.js";

/** The properties of a local Pod that the tables need (an `Endpoint` of src/cni has them). */
export interface LocalPod {
	addresses: readonly string[];
	mac: string;
	hostInterface: string;
}

export interface CompileInput {
	config: Config;
	snapshot: Pick<Snapshot, "nodes">;
	network: Network;
	nodeName: string;
	/** Node name → peer id, from `PeerIds.assign`. */
	peerIds: ReadonlyMap<string, number>;
	endpoints: Iterable<LocalPod>;
	/** Probe results; default: none yet. */
	verdicts?: PathVerdicts;
	/** Of Nodes that may exist although the snapshot does not name them; default: none. */
	held?: HeldPeers | undefined;
}

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

/**
 * `ready: false`: this Node cannot be compiled (yet); the tables in force stay. `reason` says what is
 * missing ("a Node object ...").
 */
export type CompileResult =
	| {
			ready: true;
			tables: Tables;
			peers: PeerView[];
			probed: ProbedPeer[];
			/** For verdicts that come later. */
			paths: Pick<PeerTables, "entry">;
			self: SelfView;
			problems: string[];
	  }
	| { ready: false; reason: string; problems: string[] };

/** Packets a second that the slow path takes of all Pods together, beyond the share of each. */
const SLOW_PATH_RATE = 2000;

export function compile(input: CompileInput): CompileResult {
	return atOnce(compileSteps(input));
}

/**
 * The same with turns of the event loop between. A verdict that changes meanwhile may be in the result or
 * not, so the caller brings it up to date (`paths.entry`).
 */
export function compileInTurns(input: CompileInput): Promise<CompileResult> {
	return inTurns(compileSteps(input));
}

function* compileSteps(input: CompileInput): Steps<CompileResult> {
	const { config, snapshot, network, nodeName } = input;
	const node = snapshot.nodes.get(nodeName);
	if (node === undefined)
		return notReady(`a usable Node object named ${nodeName}, the cluster has none`);
	const kernel = new KernelRoutes(network.routes);
	const { transport, problems } = selectTransport(config, node, network, kernel);
	if (transport === undefined)
		return notReady(`a transport address: ${problems.join("; ") || "the Node has none"}`, problems);

	const self = new Self(node, transport, network);
	const mtu = podMtu(config, transport, self.podCidrs);
	problems.push(...mtu.problems);
	const snat = {
		address4: snatAddress(4, transport, node, network, kernel),
		address6: snatAddress(6, transport, node, network, kernel),
	};
	const wires = wireInterfaces(network, transport, kernel);
	const context = { config, transport, routes: kernel, network, ownAddresses: self.addresses };
	const peers = new PeerTables(context, self, input.verdicts ?? new Map());
	for (const peer of snapshot.nodes.values()) {
		if (peer.name === nodeName) continue;
		yield;
		const id = input.peerIds.get(peer.name);
		if (id !== undefined && id < Limit.PEERS_MAX) peers.add(peer, id);
		else
			problems.push(`Cannot serve Node ${peer.name}: expected a peer id below ${Limit.PEERS_MAX}`);
	}
	const routes = yield* routesOf(config, self, peers, kernel);
	if (routes.size > Limit.ROUTES_MAX)
		problems.push(
			`Cannot write all routes: expected at most ${Limit.ROUTES_MAX}, got ${routes.size}`,
		);

	if (input.held !== undefined) {
		const count = holdPeers(input.held, self, peers, routes);
		if (count > 0)
			problems.push(
				`Cannot tell whether ${count} former peers are still Nodes: expected every manifest to be readable since the restart; what the kernel has of them stays`,
			);
	}

	const stackSnat = config.serviceCIDRs.length > 0 && !config.noSNAT;

	return {
		ready: true,
		problems,
		peers: peers.views,
		probed: peers.probed,
		paths: peers,
		self: {
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
		tables: {
			nodeConfig: {
				flags:
					NodeFlag.CONFIGURED |
					(config.noSNAT ? 0 : NodeFlag.SNAT) |
					(stackSnat ? NodeFlag.STACK_SNAT : 0) |
					([...routes.values()].some(({ mtu }) => mtu !== 0) ? NodeFlag.ROUTE_MTU : 0) |
					(config.trafficEncapMode === "encap" ? 0 : NodeFlag.SENDS_UNTUNNELLED),
				vni: config.tunnelVNI,
				snatAddress4: snat.address4,
				snatAddress6: snat.address6,
				gatewayAddress4: self.gateway(4),
				gatewayAddress6: self.gateway(6),
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
			peers: peers.peers,
			peerPaths: peers.paths,
			peerAddresses: peers.addresses,
			peerGateways: peers.gateways,
			routes,
			sourceAddresses: sourceAddresses(network),
			endpoints: endpointsOf(input.endpoints, self),
			hostRoutes: peers.hostRoutes,
			gatewayAddresses: self.gateways,
			gatewayMac: self.gatewayMac,
			wireInterfaces: wires,
			linkInterfaces: linkInterfaces(network, wires),
			stackSnat,
			xdp: config.xdp,
			tunnelPort: config.trafficEncapMode === "noEncap" ? 0 : tunnelPort(config),
		},
	};

	function notReady(reason: string, problems: string[] = []): CompileResult {
		return { ready: false, reason, problems };
	}
}

/** This Node's addresses take precedence over its Pods' prefixes, and those over peers'. */
function* routesOf(
	config: Config,
	self: Self,
	peers: PeerTables,
	kernel: KernelRoutes,
): Steps<Tables["routes"]> {
	const table = new RouteTable();
	for (const address of [...self.gateways, ...self.addresses]) {
		const bytes = parseAddress(address);
		if (bytes !== undefined) table.add(hostPrefix(bytes), RouteKind.HOST);
	}
	for (const prefix of self.podCidrs) table.add(prefix, RouteKind.LOCAL_PODS);
	for (const { prefix, id } of peers.prefixes) {
		table.add(prefix, RouteKind.PEER, id);
		yield;
	}
	for (const prefix of config.serviceCIDRs.map(parsePrefix)) table.add(prefix, RouteKind.STACK);
	return yield* table.routes(config.snat.excludeCIDRs.map(parsePrefix), kernel);
}

/** The first Pod with an address keeps it; no Pod may have an address of this Node. */
function endpointsOf(pods: Iterable<LocalPod>, self: Self): Tables["endpoints"] {
	const endpoints: Tables["endpoints"] = new Map();
	for (const { addresses, mac, hostInterface } of pods)
		for (const address of addresses)
			if (!endpoints.has(address) && !self.owns(address))
				endpoints.set(address, { mac, interface: hostInterface });
	return endpoints;
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
