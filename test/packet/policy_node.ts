/**
 * A Node of a random cluster: what its PolicyCompiler writes is written to tables in memory and to the maps, and
 * packets of any flow, straight or to a Service, enter it where they would.
 */
import { replyKey, reverse } from "../../src/forwarder/flow.js";
import type { FibAnswer, FibQuery } from "../../src/forwarder/forwarder.js";
import { policyEntry, portSetEntry, verdictEntry } from "../../src/policy/entries.js";
import type {
	EndpointPolicies,
	PolicyChanges,
	PolicyEntry,
	PolicyWrite,
	PortSetPart,
	Verdict,
} from "../../src/policy/policy_tables.js";
import { type Codec, u32 } from "../../src/tables/codec.js";
import {
	type Endpoint,
	type FlowKey,
	Hook,
	Limit,
	maps,
	NodeFlag,
	Path,
	Peer,
	RouteFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import type { Objects } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import type { DataPath } from "./data_path.js";
import { MemoryTables } from "./memory_tables.js";
import { ipBatch } from "./namespace.js";
import { type Attempt, type ServedStory, writeServices } from "./policy_services.js";
import * as world from "./world.js";

export const NODES = ["n1", "n2", "n3"];
const POD_MAC = "0a:00:00:00:00:0a";
const FLAGS =
	NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.SERVES_ALL | NodeFlag.SERVES_CLUSTER_IPS;
const NO_MORE = [undefined, undefined, undefined, undefined] as const;
const NO_ROUTE_MORE = { flags: 0, mtu: 0, peer: Limit.NO_PEER };

/**
 * How a flow's packets come to a Node: from a Pod here; from the wire; forwarded by the Node's stack to a Pod, or to
 * fairway0 for a Service; from the Node's own processes, in the same two places.
 */
export type Way = "pod" | "wire" | "forwarded" | "routed" | "own" | "process";

export class PolicyNode {
	readonly site: PolicySite;
	readonly tables: MemoryTables;
	readonly #dataPath: DataPath;
	readonly #number: number;
	readonly #services: ServedStory["services"];
	readonly #indexes = new Map<string, number>();
	#isWritten = false;
	/** An element of endpoints has gone, or is another Pod's, and no epoch was raised for that yet. */
	#isOtherPod = false;

	constructor(
		name: string,
		objects: Objects,
		dataPath: DataPath,
		flowSlots: number,
		services: ServedStory["services"],
	) {
		this.site = new PolicySite(objects, ...NO_MORE, name);
		this.#services = services;
		this.#number = NODES.indexOf(name) + 1;
		this.#dataPath = dataPath;
		const number = this.#number;
		const gateways = {
			gatewayAddress4: `10.244.${number}.1`,
			gatewayAddress6: `fd00:${number}::1`,
		};
		this.tables = new MemoryTables(flowSlots, world.nodeConfig({ ...gateways, flags: FLAGS }));
		this.tables.onFib(fib);
		for (const [place] of NODES.entries())
			for (const index of [(place + 1) * 2, (place + 1) * 2 + 1])
				this.tables.peers.set(index, PEER);
	}

	/** The data path becomes this Node. */
	enter(): void {
		this.setRoutes();
		this.#dataPath.write(this.tables);
		this.#isWritten = true;
	}

	/** The data path becomes another Node. */
	leave(): void {
		this.#isWritten = false;
	}

	/** Its addresses with NodePorts. */
	get addresses(): readonly string[] {
		return this.site.objects.get("Node", this.site.nodeName)?.internalIPs ?? [];
	}

	/** Returns whether routes have changed. */
	setRoutes(): boolean {
		const text = () => JSON.stringify([...this.tables.routes, ...this.tables.services], asText);
		const before = text();
		const { routes } = this.tables;
		routes.clear();
		for (const [place, name] of NODES.entries()) {
			const isHere = name === this.site.nodeName;
			const node = this.site.objects.get("Node", name);
			const prefixes = [`10.244.${place + 1}.0/24`, `fd00:${place + 1}::/64`];
			const own = { ...NO_ROUTE_MORE, kind: RouteKind.LOCAL_PODS };
			const theirs = { ...NO_ROUTE_MORE, kind: RouteKind.PEER, peer: place + 1 };
			for (const prefix of prefixes) if (isHere || node) routes.set(prefix, isHere ? own : theirs);
			if (!isHere || node === undefined) continue;
			const gateways = [`10.244.${place + 1}.1`, `fd00:${place + 1}::1`];
			const host = { ...NO_ROUTE_MORE, kind: RouteKind.HOST };
			for (const address of [...gateways, ...(node.externalIPs ?? [])])
				routes.set(hostPrefix(address), host);
			for (const address of node.internalIPs)
				routes.set(hostPrefix(address), { ...host, flags: RouteFlag.NODE_PORTS });
		}
		// What SNAT gives.
		for (const address of Object.values(world.nodeAddress))
			routes.set(hostPrefix(address), { ...NO_ROUTE_MORE, kind: RouteKind.HOST });
		// The generator gives Pods of other Nodes addresses of any.
		for (const address of this.tables.endpoints.keys())
			if (this.tables.route(address)?.kind !== RouteKind.LOCAL_PODS)
				routes.set(hostPrefix(address), { ...NO_ROUTE_MORE, kind: RouteKind.LOCAL_PODS });
		writeServices(this.tables, this.#services);
		const isOther = before !== text();
		if (isOther && this.#isWritten) this.#dataPath.write(this.tables);
		return isOther;
	}

	/** One write of the compiler's. */
	apply(write: PolicyWrite): void {
		this.site.take([write]);
		const { table, key, value } = write;
		const { tables } = this;
		switch (table) {
			case "identities":
				this.#put(tables.identities, maps.identities, key as string, value as number | undefined);
				break;
			case "blocks":
				this.#put(tables.blocks, maps.blocks, key as string, value as number | undefined);
				break;
			case "policies": {
				const entry = value ? policyEntry(value as PolicyEntry) : undefined;
				this.#put(tables.policies, maps.policies, key as number, entry);
				break;
			}
			case "policyVerdicts": {
				const entry = value ? verdictEntry(value as Verdict) : undefined;
				this.#put(tables.policyVerdicts, maps.policyVerdicts, key as number, entry);
				break;
			}
			case "portSets": {
				const entry = value ? portSetEntry(value as PortSetPart) : undefined;
				this.#put(tables.portSets, maps.portSets, key as number, entry);
				break;
			}
			case "classLimit":
				tables.limit = value as number;
				if (this.#isWritten)
					this.#dataPath.map("class_limit").update(u32.encode(0), u32.encode(tables.limit));
				break;
			case "endpointPolicies": {
				const policies = value as EndpointPolicies | undefined;
				const entry = policies && this.#endpoint(key as string, policies);
				const before = tables.endpoints.get(key as string);
				if (before && before.index !== entry?.index) this.#isOtherPod = true;
				this.#put(tables.endpoints, maps.endpoints, key as string, entry);
				break;
			}
		}
	}

	/** As the agent does after all writes. */
	raise({ route, peers }: PolicyChanges["epochs"], isOtherRoute: boolean): void {
		const { tables } = this;
		if (route || isOtherRoute || this.#isOtherPod) {
			this.#isOtherPod = false;
			tables.config = { ...tables.config, routeEpoch: tables.config.routeEpoch + 1 };
			this.#dataPath.writeConfig(tables.config);
			return;
		}
		for (const name of peers)
			for (const index of [0, 1].map((bit) => (NODES.indexOf(name) + 1) * 2 + bit)) {
				const peer = tables.peers.get(index)!;
				const raised = { ...peer, policyEpoch: peer.policyEpoch + 1 };
				tables.peers.set(index, raised);
				this.#dataPath.map("peers").update(u32.encode(index), Peer.encode(raised));
			}
	}

	/** Where its packets come in, if they are judged here. */
	wayOf({ source, destination, service }: Attempt, prefersWire = true): Way | undefined {
		const { tables } = this;
		if (tables.endpoint(source)) return "pod";
		const kind = tables.route(source)?.kind;
		if (service !== undefined) {
			if (kind === RouteKind.HOST) return "process";
			// A Pod that is no more.
			if (kind === RouteKind.LOCAL_PODS) return undefined;
			return prefersWire ? "wire" : "routed";
		}
		if (!tables.endpoint(destination)) return undefined;
		if (kind === RouteKind.HOST) return "own";
		return kind === RouteKind.LOCAL_PODS || !prefersWire ? "forwarded" : "wire";
	}

	/** What an address is to this Node: its Pod, or its route. */
	placeOf(address: string): string {
		const { kind = RouteKind.OUTSIDE, peer } = this.tables.route(address) ?? {};
		return `${this.tables.endpoint(address)?.index} ${kind} ${peer}`;
	}

	/** The answers of a flow that began with this packet; undefined: there are none here. */
	answerOf(original: FlowKey): { key: FlowKey; way: Way } | undefined {
		const { tables } = this;
		const isEcho = ![6, 17, 132].includes(original.protocol);
		const echo = {
			...{ protocol: original.source.includes(":") ? 58 : 1, destinationPort: Limit.ECHO_PORT },
		};
		const flow = tables.flow(isEcho ? { ...original, ...echo } : original)?.flow;
		const key = flow === undefined ? reverse(original) : replyKey(flow);
		if (tables.endpoint(key.source)) return { key, way: "pod" };
		const kindOf = (address: string) => tables.route(address)?.kind ?? RouteKind.OUTSIDE;
		const from = kindOf(key.source);
		const isHere = tables.endpoint(key.destination) || kindOf(key.destination) === RouteKind.HOST;
		if (!isHere || from === RouteKind.LOCAL_PODS) return undefined;
		if (from !== RouteKind.HOST) return { key, way: "wire" };
		return tables.endpoint(key.destination) ? { key, way: "own" } : undefined;
	}

	/** A packet with this tuple. */
	input(key: FlowKey, way: Way, isAnswer = false): Input {
		const { source, destination } = key;
		const packet = build.ip({ source, destination }, segmentOf(key, isAnswer));
		const receiver = this.tables.endpoint(destination);
		const { GATEWAY_MAC, NODE_MAC, ROUTER_MAC, indexOf } = world;
		if (way === "pod") {
			const macs = { source: POD_MAC, destination: GATEWAY_MAC };
			const context = { ifindex: this.tables.endpoint(source)?.ifindex ?? indexOf("pod0") };
			return { hook: Hook.FROM_POD, packet: build.frame(macs, packet), context };
		}
		if (way === "wire") {
			const macs = { source: ROUTER_MAC, destination: NODE_MAC };
			const context = { ifindex: indexOf("wire0") };
			return { hook: Hook.FROM_WIRE, packet: build.frame(macs, packet), context };
		}
		const isForwarded = way === "forwarded" || way === "routed";
		const ingressIfindex = isForwarded ? { ingressIfindex: indexOf("wire0") } : {};
		if (way === "routed" || way === "process") {
			const macs = { source: GATEWAY_MAC, destination: GATEWAY_MAC };
			const context = { ifindex: indexOf("fairway0"), ...ingressIfindex };
			return { hook: Hook.FROM_HOST, packet: build.frame(macs, packet), context };
		}
		const macs = { source: GATEWAY_MAC, destination: POD_MAC };
		const context = { ifindex: receiver?.ifindex ?? indexOf("pod0"), ...ingressIfindex };
		return { hook: Hook.TO_POD, packet: build.frame(macs, packet), context };
	}

	/** Of all its Pods' addresses one interface leads to them: what is judged goes by index. */
	#endpoint(address: string, { egress, ingress }: EndpointPolicies): Endpoint {
		const pod = this.site.endpoints().find(({ addresses }) => addresses.includes(address));
		const key = pod?.id ?? address;
		const index = this.#indexes.get(key) ?? this.#indexes.size + 1;
		this.#indexes.set(key, index);
		const where = { ifindex: world.indexOf("pod0"), mac: POD_MAC, index };
		return { ...where, egressPolicy: egress, ingressPolicy: ingress };
	}

	#put<K, V>(
		entries: Map<K, V>,
		map: { name: string; key: Codec<K>; value: Codec<V>; type: number; valueSize: number },
		key: K,
		value: V | undefined,
	): void {
		if (value === undefined) entries.delete(key);
		else entries.set(key, value);
		if (!this.#isWritten) return;
		const kernel = this.#dataPath.map(map.name);
		const bytes = map.key.encode(key);
		if (value !== undefined) kernel.update(bytes, map.value.encode(value));
		else if (map.name === maps.policies.name) kernel.update(bytes, Buffer.alloc(map.valueSize));
		else kernel.delete(bytes);
	}
}

/** The other Nodes' addresses on the link, whose next hops are known. */
const NEIGHBOURS = ["192.168.1.2", "192.168.1.3"];
const NEIGHBOUR_MAC = "02:00:00:00:02:02";

/** After makeNetwork: else a copy of each packet to them would go up, and there is a limit for that. */
export function addNeighbours(): void {
	const how = `lladdr ${NEIGHBOUR_MAC} dev wire0 nud permanent`;
	ipBatch(NEIGHBOURS.map((address) => `neighbour add ${address} ${how}`));
}

function fib(query: FibQuery): FibAnswer {
	const answer = world.fib(query);
	const isNeighbour = answer.kind === "forward" && NEIGHBOURS.includes(answer.nextHop);
	return isNeighbour ? { ...answer, destinationMac: NEIGHBOUR_MAC } : answer;
}

const PEER: Peer = {
	...{ path: Path.GENEVE, outerFamily: 4, port: Limit.GENEVE_PORT, vni: world.VNI },
	...{ local: world.nodeAddress[4], remote: world.direct.transport[4], mtu: 1450 },
	...{ flags: 0, policyEpoch: 0, nodeHash: 1n },
};

function hostPrefix(address: string): string {
	return `${address}/${address.includes(":") ? 128 : 32}`;
}

/** An ICMP echo of the packet's family where the protocol is either ICMP. */
function segmentOf(
	{ protocol, sourcePort, destinationPort }: FlowKey,
	isAnswer: boolean,
): build.Segment {
	switch (protocol) {
		case 6:
			return build.tcp(sourcePort, destinationPort, {
				flags: isAnswer ? build.SYN | build.ACK : build.SYN,
			});
		case 17:
			return build.udp(sourcePort, destinationPort);
		case 132:
			return build.sctp(sourcePort, destinationPort);
		default:
			return build.echo(isAnswer ? "reply" : "request", isAnswer ? destinationPort : sourcePort);
	}
}

/** JSON has no big integers. */
function asText(_: string, value: unknown): unknown {
	return typeof value === "bigint" ? value.toString() : value;
}
