/**
 * The Services of the Node in world.ts, each in both families, and most with TCP and UDP; `mixed`, `twin` and
 * `empty` with SCTP, too. The last byte of a cluster IP, the NodePort's and the LoadBalancer's number is that
 * of the Service's place here.
 *
 *   mixed      Pods A and B, Pods of peers by every path, an outside host, this Node, another Node
 *   twin       endpoints that `mixed` has as well
 *   sticky     session affinity
 *   self       Pod A alone
 *   policy     both traffic policies Local, endpoints here and elsewhere
 *   remote     both traffic policies Local, endpoints elsewhere only
 *   empty      no endpoints
 *   ranged     a LoadBalancer with source ranges
 *   external   an external IP
 *   onNode     a LoadBalancer at this Node's own address
 *   onPeer     a LoadBalancer at another Node's address
 *
 * 10.96.0.0/16 and fd00:10:96::/64 are the service CIDRs.
 */
import {
	BackendState,
	FrontendKind,
	Limit,
	RouteFlag,
	RouteKind,
	ServiceFlag,
} from "../../src/tables/generated.js";
import type { MemoryTables } from "./memory_tables.js";
import * as world from "./world.js";

type Family = 4 | 6;
type Protocol = 6 | 17 | 132;
type Pair = { 4: string; 6: string };

export const SERVICE_PORT = 80;
export const TARGET_PORT = 8080;
/** Of `onNode` and `onPeer`: below it, above the Node's own. */
export const SHARED_PORT = 8443;
export const AFFINITY_SECONDS = 10800;

interface Facts {
	name: string;
	protocols?: readonly Protocol[];
	/** All endpoints; those of this Node are the local set. */
	endpoints: readonly Pair[];
	/** enum service_flag */
	flags?: number;
	affinity?: number;
	loadBalancer?: Pair;
	externalIP?: Pair;
	/** Ranges of load balancer IPs. */
	ranges?: Record<Family, readonly string[]>;
}

const loadBalancer = (number: number): Pair => ({
	4: `192.0.2.${number}`,
	6: `2001:db8:1b::${number}`,
});

const BOTH_LOCAL = ServiceFlag.INTERNAL_LOCAL | ServiceFlag.EXTERNAL_LOCAL;
const EVERY: readonly Protocol[] = [6, 17, 132];

function allFacts(): readonly Facts[] {
	const { podA, podB, peers, direct, geneve4, vxlan4, outside, nodeAddress } = world;
	return [
		{
			name: "mixed",
			protocols: EVERY,
			endpoints: [
				podA,
				podB,
				...peers.map(({ pod }) => pod),
				outside,
				nodeAddress,
				direct.transport,
			],
			loadBalancer: loadBalancer(10),
		},
		{ name: "twin", protocols: EVERY, endpoints: [podB, direct.pod, outside] },
		{
			name: "sticky",
			endpoints: [podA, podB, direct.pod, geneve4.pod],
			affinity: AFFINITY_SECONDS,
		},
		{ name: "self", endpoints: [podA] },
		{
			name: "policy",
			endpoints: [podB, direct.pod, vxlan4.pod],
			flags: BOTH_LOCAL,
			loadBalancer: loadBalancer(14),
		},
		{
			name: "remote",
			endpoints: [direct.pod, geneve4.pod],
			flags: BOTH_LOCAL,
			loadBalancer: loadBalancer(15),
		},
		{ name: "empty", protocols: EVERY, endpoints: [], loadBalancer: loadBalancer(16) },
		{
			name: "ranged",
			endpoints: [podB, direct.pod],
			flags: ServiceFlag.RANGES,
			loadBalancer: loadBalancer(17),
			ranges: {
				4: ["198.51.100.0/24", "10.244.1.2/32"],
				6: ["2001:db8::/112", "fd00:10:244:1::2/128"],
			},
		},
		{ name: "external", endpoints: [podB, geneve4.pod], externalIP: loadBalancer(118) },
		{ name: "onNode", endpoints: [podB, direct.pod], loadBalancer: nodeAddress },
		{ name: "onPeer", endpoints: [podB, geneve4.pod], loadBalancer: direct.transport },
	];
}

const FIRST_NUMBER = 10;

export interface ServicePort {
	name: string;
	family: Family;
	protocol: Protocol;
	/** In `services`. */
	index: number;
	clusterIP: string;
	port: number;
	nodePort: number;
	/** "" for none. */
	loadBalancerIP: string;
	loadBalancerPort: number;
	externalIP: string;
	/** All of them, in the order of `Facts`. */
	backends: readonly { id: number; address: string; isLocal: boolean }[];
}

/** A Service's port of this protocol. */
export function serviceOf(name: string, family: Family, protocol: Protocol): ServicePort {
	const found = servicePorts().find(
		(service) =>
			service.name === name && service.family === family && service.protocol === protocol,
	);
	if (found === undefined) throw new Error(`Cannot find the Service ${name} of the test's Node`);
	return found;
}

let ports: ServicePort[] | undefined;

/** Every port of every Service. */
export function servicePorts(): readonly ServicePort[] {
	if (ports !== undefined) return ports;
	ports = [];
	let id = 1;
	for (const [place, facts] of allFacts().entries()) {
		const number = FIRST_NUMBER + place;
		const isShared = facts.name === "onNode" || facts.name === "onPeer";
		for (const family of [4, 6] as const) {
			const here = [world.podA, world.podB, world.nodeAddress].map((pair) => pair[family]);
			for (const protocol of facts.protocols ?? ([6, 17] as const)) {
				ports.push({
					name: facts.name,
					family,
					protocol,
					index: ports.length + 1,
					clusterIP: family === 4 ? `10.96.0.${number}` : `fd00:10:96::${number}`,
					port: SERVICE_PORT,
					nodePort: 30000 + number,
					loadBalancerIP: facts.loadBalancer?.[family] ?? "",
					loadBalancerPort: isShared ? SHARED_PORT : SERVICE_PORT,
					externalIP: facts.externalIP?.[family] ?? "",
					backends: facts.endpoints.map((pair) => ({
						id: id++,
						address: pair[family],
						isLocal: here.includes(pair[family]),
					})),
				});
			}
		}
	}
	return ports;
}

/** The first place in `service_slots` of a Service's set. */
function firstPlace(index: number, isLocal: boolean): number {
	return index * 32 + (isLocal ? 16 : 0);
}

/** Gives a Service these sets, in the order of a set's writes: places, then the Service. */
export function setBackends(
	tables: MemoryTables,
	{ index, backends }: Pick<ServicePort, "index" | "backends">,
	cluster: readonly number[] = backends.map(({ id }) => id),
	local: readonly number[] = backends.filter(({ isLocal }) => isLocal).map(({ id }) => id),
): void {
	const service = tables.services.get(index);
	if (service === undefined) throw new Error(`Cannot change the Service ${index}: there is none`);
	const setOf = (ids: readonly number[], isLocal: boolean): bigint => {
		const first = firstPlace(index, isLocal);
		for (const [i, id] of ids.entries()) tables.serviceSlots.set(first + i, id);
		return BigInt(first) | (BigInt(ids.length) << 32n);
	};
	for (const { id } of backends) {
		const sets =
			(cluster.includes(id) ? BackendState.IN_CLUSTER_SET : 0) |
			(local.includes(id) ? BackendState.IN_LOCAL_SET : 0);
		tables.setBackendState(id, BackendState.SERVES | sets);
	}
	tables.services.set(index, {
		...service,
		clusterSet: setOf(cluster, false),
		localSet: setOf(local, true),
	});
}

/** Writes all Services into the tables. */
export function addServices(tables: MemoryTables): void {
	const noPeer = { mtu: 0, peer: Limit.NO_PEER };
	const service = { kind: RouteKind.SERVICE, flags: 0, ...noPeer };
	tables.routes.set("10.96.0.0/16", service);
	tables.routes.set("fd00:10:96::/64", service);
	const facts = new Map(allFacts().map((one) => [one.name, one]));
	for (const one of servicePorts()) {
		const { index, family, protocol, loadBalancerIP, externalIP } = one;
		const { flags = 0, affinity = 0, ranges } = facts.get(one.name)!;
		const bits = family === 4 ? 32 : 128;
		const frontend = (address: string, port: number, kind: number) =>
			tables.frontends.set(`${address} ${protocol} ${port}`, { service: index, kind });
		const whole = (address: string) => {
			tables.frontends.set(`${address} 0 0`, { service: 0, kind: FrontendKind.ADDRESS });
			tables.routes.set(`${address}/${bits}`, service);
		};
		tables.services.set(index, {
			clusterSet: 0n,
			localSet: 0n,
			nameHash: BigInt(index),
			affinity,
			flags,
		});
		for (const { id, address } of one.backends)
			tables.backends.set(id, { address, port: TARGET_PORT, service: index });
		setBackends(tables, one);
		frontend(one.clusterIP, one.port, FrontendKind.CLUSTER_IP);
		tables.frontends.set(`${one.clusterIP} 0 0`, { service: 0, kind: FrontendKind.ADDRESS });
		frontend(family === 4 ? "0.0.0.0" : "::", one.nodePort, FrontendKind.NODE_PORT);
		if (externalIP !== "") {
			frontend(externalIP, one.port, FrontendKind.EXTERNAL_IP);
			whole(externalIP);
		}
		for (const range of ranges?.[family] ?? []) tables.serviceRanges.set(`${index} ${range}`, 1);
		if (loadBalancerIP === "") continue;
		frontend(loadBalancerIP, one.loadBalancerPort, FrontendKind.LOAD_BALANCER);
		if (one.name === "onPeer")
			tables.routes.set(`${loadBalancerIP}/${bits}`, {
				kind: RouteKind.OUTSIDE,
				flags: RouteFlag.SERVICE_PORTS,
				...noPeer,
			});
		else if (one.name !== "onNode") whole(loadBalancerIP);
	}
	for (const [family, bits] of [
		[4, 32],
		[6, 128],
	] as const)
		tables.routes.set(`${world.nodeAddress[family]}/${bits}`, {
			kind: RouteKind.HOST,
			flags: RouteFlag.NODE_PORTS | RouteFlag.SERVICE_PORTS | RouteFlag.PEERS_KNOW,
			...noPeer,
		});
}
