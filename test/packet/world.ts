/**
 * The Node that packet tests run on, as tables and as a network namespace that agrees with them.
 *
 *   Pod A 10.244.1.2  fd00:10:244:1::2   pod0 ┐
 *   Pod B 10.244.1.3  fd00:10:244:1::3   pod1 ┤ Node, 192.168.1.11  fd00:192:168:1::11
 *                                   fairway0 ─┘      │ wire0
 *   ──────────────┬──────────┬─────────┬─────────────┴────┬────────────
 *   peer 1 direct │  peer 2  │  peer 3 │  peer 4          │ router 192.168.1.1
 *       192.168.1.12   geneve    vxlan    geneve over IPv6  ├─ peer 5 routed 192.168.2.15
 *       10.244.2/24   10.244.3  10.244.4  10.244.5          └─ outside, 198.51.100.0/24 and so on
 *
 * Services: services.ts. Peer 6 is down, 10.244.7.0/24. Gateway addresses end in 1. Every peer has the same for IPv6: fd00:10:244:N::/64.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import type { FibAnswer, FibQuery } from "../../src/forwarder/forwarder.js";
import { macWord } from "../../src/tables/address.js";
import {
	type Endpoint,
	EndpointPolicy,
	FlowState,
	Limit,
	type NodeConfig,
	NodeFlag,
	Path,
	type Peer,
	ProbeWay,
	RouteFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import { MemoryTables } from "./memory_tables.js";
import { ipBatch } from "./namespace.js";
import { type Policies, writePolicies } from "./policies.js";
import { addServices } from "./services.js";

export const VNI = 0x00abcd;
export const GATEWAY_MAC = "0a:00:00:00:00:01";
export const NODE_MAC = "02:00:00:00:01:11";
export const ROUTER_MAC = "02:00:00:00:01:01";
export const HOST_MAC = GATEWAY_MAC;
/** What XDP writes as the source of a frame whose tunnel it has stripped, and as a word. */
export const STRIPPED = "06:5e:c4:e7:00:01";
const STRIPPED_MAC = macWord(STRIPPED);

export interface Pod {
	interface: string;
	mac: string;
	4: string;
	6: string;
}

export const podA: Pod = {
	interface: "pod0",
	mac: "0a:00:00:00:00:0a",
	4: "10.244.1.2",
	6: "fd00:10:244:1::2",
};
export const podB: Pod = {
	interface: "pod1",
	mac: "0a:00:00:00:00:0b",
	4: "10.244.1.3",
	6: "fd00:10:244:1::3",
};

/** Pod B was created when the Node's Pods had a smaller MTU. */
const POD_B_MTU = 1400;

export const gateway = { 4: "10.244.1.1", 6: "fd00:10:244:1::1" };
export const nodeAddress = { 4: "192.168.1.11", 6: "fd00:192:168:1::11" };
/** An address of the Node, too, which is not in its Node object. */
export const unknownAddress = { 4: "192.168.1.78", 6: "fd00:192:168:1::78" };
export const router = { 4: "192.168.1.1", 6: "fd00:192:168:1::1" };
/** Outside hosts; the last is excluded from SNAT, the one before has an unknown neighbour. */
export const outside = { 4: "198.51.100.7", 6: "2001:db8::7" };
export const excluded = { 4: "172.16.0.9", 6: "fd00:ec::9" };
export const silent = { 4: "192.168.1.99", 6: "fd00:192:168:1::99" };
export const prohibitedHost = { 4: "203.0.113.6", 6: "2001:db8:dead::6" };
export const blackholeHost = { 4: "203.0.113.7", 6: "2001:db8:dead::7" };
export const unreachableHost = { 4: "203.0.113.5", 6: "2001:db8:dead::5" };

export interface PeerFacts {
	id: number;
	path: number;
	transport: { 4: string; 6: string };
	mac: string;
	/** A Pod of the peer. */
	pod: { 4: string; 6: string };
	gateway: { 4: string; 6: string };
	outerFamily: 4 | 6;
	mtu: number;
	/** PeerFlag, 0 by default. */
	flags?: number;
}

function peerFacts(id: number, path: number, outerFamily: 4 | 6, mtu: number): PeerFacts {
	const subnet = path === Path.ROUTED ? 2 : 1;
	return {
		id,
		path,
		transport: {
			4: `192.168.${subnet}.${11 + id}`,
			6: `fd00:192:168:${subnet}::${11 + id}`,
		},
		mac: subnet === 1 ? `02:00:00:00:01:${11 + id}` : ROUTER_MAC,
		pod: { 4: `10.244.${id + 1}.2`, 6: `fd00:10:244:${id + 1}::2` },
		gateway: { 4: `10.244.${id + 1}.1`, 6: `fd00:10:244:${id + 1}::1` },
		outerFamily,
		mtu,
	};
}

export const peers: PeerFacts[] = [
	peerFacts(1, Path.DIRECT, 4, 1500),
	peerFacts(2, Path.GENEVE, 4, 1450),
	peerFacts(3, Path.VXLAN, 4, 1450),
	peerFacts(4, Path.GENEVE, 6, 1430),
	peerFacts(5, Path.ROUTED, 4, 1500),
	peerFacts(6, Path.DOWN, 4, 1500),
];

export const [direct, geneve4, vxlan4, geneve6, routed, down] = peers as [
	PeerFacts,
	PeerFacts,
	PeerFacts,
	PeerFacts,
	PeerFacts,
	PeerFacts,
];

export const ifindex: Record<string, number> = {};

/** Creates the devices, addresses, routes and neighbours of the drawing in this namespace. */
export function makeNetwork(): void {
	execFileSync("ip", ["link", "set", "lo", "up"]);
	for (const name of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) {
		writeFileSync(`/proc/sys/net/${name}`, "1");
	}
	for (const kind of ["default", "all"]) {
		writeFileSync(`/proc/sys/net/ipv6/conf/${kind}/accept_dad`, "0");
	}
	const macs = {
		wire0: NODE_MAC,
		fairway0: GATEWAY_MAC,
		pod0: GATEWAY_MAC,
		pod1: GATEWAY_MAC,
	};
	ipBatch([
		...Object.entries(macs).flatMap(([name, mac]) => [
			`link add ${name} address ${mac} type veth peer name ${name}-end`,
			`link set ${name}-end up`,
			`link set ${name} up mtu 1500`,
		]),
		`link set ${podB.interface} mtu ${POD_B_MTU}`,
		`address add ${nodeAddress[4]}/24 dev wire0`,
		`address add ${nodeAddress[6]}/64 dev wire0 nodad`,
		`address add ${gateway[4]}/32 dev fairway0`,
		`address add ${gateway[6]}/128 dev fairway0 nodad`,
		`route add default via ${router[4]} dev wire0`,
		`route add default via ${router[6]} dev wire0`,
		`route add unreachable ${unreachableHost[4]}/32`,
		`route add unreachable ${unreachableHost[6]}/128`,
		`route add prohibit ${prohibitedHost[4]}/32`,
		`route add prohibit ${prohibitedHost[6]}/128`,
		`route add blackhole ${blackholeHost[4]}/32`,
		`route add blackhole ${blackholeHost[6]}/128`,
		`route add 10.244.1.2 dev pod0`,
		`route add 10.244.1.3 dev pod1`,
		`route add fd00:10:244:1::2 dev pod0`,
		`route add fd00:10:244:1::3 dev pod1`,
		...([4, 6] as const).flatMap((family) => [
			...[podA, podB].map(
				(pod) =>
					`neighbour add ${pod[family]} lladdr ${pod.mac} dev ${pod.interface} nud permanent`,
			),
			`neighbour add ${router[family]} lladdr ${ROUTER_MAC} dev wire0 nud permanent`,
			...peers
				.filter(({ path }) => path !== Path.ROUTED)
				.map(
					({ transport, mac }) =>
						`neighbour add ${transport[family]} lladdr ${mac} dev wire0 nud permanent`,
				),
		]),
	]);
	readIndexes();
}

/** Adds another NIC and sets it up. */
export function addDevice(name: string, mac: string, addresses: string[]): void {
	ipBatch([
		`link add ${name} address ${mac} type veth peer name ${name}-end`,
		`link set ${name}-end up`,
		`link set ${name} up`,
		...addresses.map((address) => `address add ${address} dev ${name}`),
	]);
	readIndexes();
}

function readIndexes(): void {
	const links = JSON.parse(execFileSync("ip", ["-json", "link"], { encoding: "utf8" })) as {
		ifname: string;
		ifindex: number;
	}[];
	for (const link of links) ifindex[link.ifname] = link.ifindex;
}

export function indexOf(name: string): number {
	const index = ifindex[name];
	if (index === undefined) throw new Error(`Cannot find the interface ${name} of the test network`);
	return index;
}

export function nodeConfig(change: Partial<NodeConfig> = {}): NodeConfig {
	// Shorter than real ones, because a flow cannot be older than the machine's clock.
	const timeouts = new Array<number>(FlowState.STATE_COUNT).fill(0);
	timeouts[FlowState.TCP_OPENING] = 60;
	timeouts[FlowState.TCP_ESTABLISHED] = 90;
	timeouts[FlowState.TCP_CLOSING] = 90;
	timeouts[FlowState.TCP_CLOSED] = 10;
	timeouts[FlowState.UDP_OPENING] = 30;
	timeouts[FlowState.UDP_ESTABLISHED] = 90;
	timeouts[FlowState.ICMP] = 60;
	timeouts[FlowState.SCTP_OPENING] = 60;
	timeouts[FlowState.SCTP_ESTABLISHED] = 90;
	timeouts[FlowState.SCTP_CLOSED] = 10;
	timeouts[FlowState.OTHER] = 90;
	return {
		flags: NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.SERVES_ALL,
		routeEpoch: 1,
		nextHopEpoch: 1,
		vni: VNI,
		snatAddress4: nodeAddress[4],
		snatAddress6: nodeAddress[6],
		gatewayAddress4: gateway[4],
		gatewayAddress6: gateway[6],
		returnAddress4: "169.254.250.28",
		returnAddress6: "fd66:6169:7277::28",
		gatewayMac: GATEWAY_MAC,
		snatPortFirst: 49152,
		snatPortLast: 65535,
		genevePort: Limit.GENEVE_PORT,
		vxlanPort: Limit.VXLAN_PORT,
		hostIfindex: indexOf("fairway0"),
		transportMtu: 1500,
		flowHash: { word: [0x5eed, 0x1b873593, 0xcc9e2d51, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f] },
		portHash: { word: [0x165667b1, 0x9e3779b1, 0x2545f491, 0x4f6cdd1d, 0x94d049bb, 0xbf58476d] },
		slowPathRate: 1_000_000,
		probeKey: [0x0706050403020100n, 0x0f0e0d0c0b0a0908n],
		flowTimeouts: timeouts,
		wireMacs: [macWord(NODE_MAC), 0n, 0n, 0n],
		strippedMac: STRIPPED_MAC,
		...change,
	};
}

/** Nothing expires during a test, however slow the machine is, and whatever clock each side has. */
export const LONG_TIMEOUTS = new Array<number>(FlowState.STATE_COUNT).fill(1_000_000);

/** Differences of a Node from the drawing. */
export interface Variation {
	config?: Partial<NodeConfig>;
	/** Peer id → what is different about it, for both families. */
	peers?: Record<number, Partial<Pick<PeerFacts, "path" | "outerFamily" | "mtu" | "flags">>>;
	/** False: no direct answer to a probe has told a peer's MAC. */
	proven?: boolean;
	/** Of Pods A and B; absent: they are open. */
	policies?: Policies;
	/** Where the policy epochs of peers begin. */
	policyEpoch?: number;
}

/** The tables of the drawing, with variations. */
export function makeTables(flowSlots: number, variation: Variation = {}): MemoryTables {
	const tables = new MemoryTables(flowSlots, nodeConfig(variation.config));
	const noPeer = { flags: 0, mtu: 0, peer: Limit.NO_PEER };
	const route = (
		prefix: string,
		kind: number,
		what: { flags?: number; mtu?: number; peer?: number } = {},
	) => tables.routes.set(prefix, { kind, ...noPeer, ...what });
	for (const family of [4, 6] as const) {
		const bits = family === 4 ? 32 : 128;
		for (const [place, pod] of [podA, podB].entries()) {
			const endpoint: Endpoint = {
				ifindex: indexOf(pod.interface),
				mac: pod.mac,
				index: place + 1,
				egressPolicy: EndpointPolicy.OPEN,
				ingressPolicy: EndpointPolicy.OPEN,
			};
			tables.endpoints.set(pod[family], endpoint);
		}
		route(`${gateway[family]}/${bits}`, RouteKind.HOST);
		route(`${nodeAddress[family]}/${bits}`, RouteKind.HOST);
		route(`${unknownAddress[family]}/${bits}`, RouteKind.HOST, { flags: RouteFlag.NO_TUNNELS });
		for (const facts of peers) {
			const varied = { ...facts, ...variation.peers?.[facts.id] };
			const index = facts.id * 2 + (family === 6 ? 1 : 0);
			const policyEpoch = variation.policyEpoch ?? 0;
			tables.peers.set(index, { ...peerEntry(varied, family), policyEpoch });
			for (const [way, path] of pathsOf(varied)) {
				tables.peerPaths.set(index * 2 + way, peerEntry({ ...varied, path }, family));
				if (path === Path.DIRECT && variation.proven !== false)
					tables.provenSenders.set(index * 2 + way, macWord(facts.mac));
			}
			tables.peerAddresses.set(facts.transport[family], facts.id);
			tables.peerGateways.set(facts.gateway[family], facts.id);
		}
	}
	route("10.244.1.0/24", RouteKind.LOCAL_PODS);
	route("fd00:10:244:1::/64", RouteKind.LOCAL_PODS);
	for (const { id } of peers) {
		route(`10.244.${id + 1}.0/24`, RouteKind.PEER, { peer: id });
		route(`fd00:10:244:${id + 1}::/64`, RouteKind.PEER, { peer: id });
	}
	route("172.16.0.0/12", RouteKind.OUTSIDE, { flags: RouteFlag.NO_SNAT });
	route("fd00:ec::/32", RouteKind.OUTSIDE, { flags: RouteFlag.NO_SNAT });
	addServices(tables);
	if (variation.policies) writePolicies(tables, variation.policies);
	tables.deviceMtus.set(indexOf(podA.interface), 1500);
	tables.deviceMtus.set(indexOf(podB.interface), POD_B_MTU);
	tables.onFib(fib);
	return tables;
}

/** All possible paths, whichever is in use; there is no direct path to peer 6. */
function pathsOf({ id, path, transport }: PeerFacts): [number, number][] {
	const direct = isOnLink(transport[4]) ? Path.DIRECT : Path.ROUTED;
	return [
		[ProbeWay.DIRECT, id === down.id ? Path.NONE : direct],
		[ProbeWay.TUNNEL, path === Path.VXLAN ? Path.VXLAN : Path.GENEVE],
	];
}

function peerEntry(facts: PeerFacts, family: 4 | 6): Peer {
	const isTunnel = facts.path === Path.GENEVE || facts.path === Path.VXLAN;
	const outer = isTunnel ? facts.outerFamily : family;
	return {
		path: facts.path,
		outerFamily: isTunnel ? outer : 0,
		port: facts.path === Path.GENEVE ? Limit.GENEVE_PORT : isTunnel ? Limit.VXLAN_PORT : 0,
		vni: isTunnel ? VNI : 0,
		local: isTunnel ? nodeAddress[outer] : "",
		remote: facts.transport[outer],
		mtu: facts.mtu,
		flags: facts.flags ?? 0,
		policyEpoch: 0,
		nodeHash: BigInt(facts.id),
	};
}

/** A question about any packet, to be completed. */
export const ANY_QUERY: FibQuery = {
	source: "",
	destination: "",
	protocol: 0,
	sourcePort: 0,
	destinationPort: 0,
	tos: 0,
	wantsSource: true,
};

/** The answers of this namespace's FIB. The programs use the real one. */
export function fib({ destination, source, isOutput }: FibQuery): FibAnswer {
	// The unspecified address has no text.
	const family = (destination || source).includes(":") ? 6 : 4;
	const wire = {
		kind: "forward",
		ifindex: indexOf("wire0"),
		sourceMac: NODE_MAC,
		mtu: 1500,
		source: nodeAddress[family],
	} as const;
	if (destination === unreachableHost[family]) return { kind: "noRoute", type: "unreachable" };
	if (destination === prohibitedHost[family]) return { kind: "noRoute", type: "prohibit" };
	if (destination === blackholeHost[family]) return { kind: "noRoute", type: "blackhole" };
	// The loopback's routes do not lead out of the NIC, the default route does.
	if (isOutput && destination.startsWith("127.")) {
		return { ...wire, nextHop: router[family], destinationMac: ROUTER_MAC };
	}
	// IPv6 of the link, of the loopback and to many is the Node's own stack's, by either address.
	const isOfLink = /^(fe[89ab].|ff..):|^::1$/;
	if (isLocal(destination) || isOfLink.test(destination) || isOfLink.test(source))
		return { kind: "notForwarded" };
	const peer = peers.find(
		({ transport, path }) => path !== Path.ROUTED && transport[family] === destination,
	);
	if (peer) return { ...wire, nextHop: destination, destinationMac: peer.mac };
	const pod = [podA, podB].find((pod) => pod[family] === destination);
	if (pod) {
		return {
			kind: "forward",
			ifindex: indexOf(pod.interface),
			sourceMac: GATEWAY_MAC,
			destinationMac: pod.mac,
			nextHop: destination,
			mtu: 1500,
			source: "",
		};
	}
	if (isOnLink(destination)) {
		return destination === router[family]
			? { ...wire, nextHop: destination, destinationMac: ROUTER_MAC }
			: { ...wire, nextHop: destination };
	}
	return { ...wire, nextHop: router[family], destinationMac: ROUTER_MAC };
}

function isOnLink(address: string): boolean {
	return address.startsWith("192.168.1.") || address.startsWith("fd00:192:168:1:");
}

function isLocal(address: string): boolean {
	// The last three: broadcast, the subnet's router anycast address, loopback.
	const own = [
		...[nodeAddress, gateway].flatMap((pair) => [pair[4], pair[6]]),
		"192.168.1.255",
		"fd00:192:168:1::",
		"::1",
	];
	return own.includes(address) || address.startsWith("127.");
}
