/**
 * A Node of a random cluster: what its PolicyCompiler writes is written to tables in memory and to the maps, and
 * packets of any flow enter it where they would. Nothing is translated.
 */
import type { FibAnswer, FibQuery } from "../../src/forwarder/forwarder.js";
import { policyEntry, portSetEntry, verdictEntry } from "../../src/policy/entries.js";
import type { Flow } from "../../src/policy/interpreter.js";
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
	Hook,
	Limit,
	maps,
	NodeFlag,
	Path,
	Peer,
	RouteKind,
} from "../../src/tables/generated.js";
import type { Objects } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import type { DataPath } from "./data_path.js";
import { MemoryTables } from "./memory_tables.js";
import { ipBatch } from "./namespace.js";
import * as world from "./world.js";

export const NODES = ["n1", "n2", "n3"];
const POD_MAC = "0a:00:00:00:00:0a";
const NO_MORE = [undefined, undefined, undefined, undefined] as const;
const NO_ROUTE_MORE = { flags: 0, mtu: 0, peer: Limit.NO_PEER };

/** How a flow's packets come to a Node that judges them. */
export type Way = "pod" | "wire" | "forwarded" | "own";

export class PolicyNode {
	readonly site: PolicySite;
	readonly tables: MemoryTables;
	readonly #dataPath: DataPath;
	readonly #number: number;
	readonly #indexes = new Map<string, number>();
	#isWritten = false;

	constructor(name: string, objects: Objects, dataPath: DataPath, flowSlots: number) {
		this.site = new PolicySite(objects, ...NO_MORE, name);
		this.#number = NODES.indexOf(name) + 1;
		this.#dataPath = dataPath;
		const number = this.#number;
		const gateways = {
			gatewayAddress4: `10.244.${number}.1`,
			gatewayAddress6: `fd00:${number}::1`,
		};
		this.tables = new MemoryTables(
			flowSlots,
			world.nodeConfig({ flags: NodeFlag.CONFIGURED, ...gateways }),
		);
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

	/** Returns whether routes have changed. */
	setRoutes(): boolean {
		const before = JSON.stringify([...this.tables.routes]);
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
			for (const address of [...gateways, ...node.internalIPs, ...(node.externalIPs ?? [])])
				routes.set(hostPrefix(address), { ...NO_ROUTE_MORE, kind: RouteKind.HOST });
		}
		// The generator gives Pods of other Nodes addresses of any.
		for (const address of this.tables.endpoints.keys())
			if (this.tables.route(address)?.kind !== RouteKind.LOCAL_PODS)
				routes.set(hostPrefix(address), { ...NO_ROUTE_MORE, kind: RouteKind.LOCAL_PODS });
		const isOther = before !== JSON.stringify([...routes]);
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
				this.#put(tables.endpoints, maps.endpoints, key as string, entry);
				break;
			}
		}
	}

	/** As the agent does after all writes. */
	raise({ route, peers }: PolicyChanges["epochs"], isOtherRoute: boolean): void {
		const { tables } = this;
		if (route || isOtherRoute) {
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

	/** Where a flow's packets come in, if one of its ends is a Pod here. */
	wayOf({ source, destination }: Flow, prefersWire = true): Way | undefined {
		const { tables } = this;
		if (tables.endpoint(source)) return "pod";
		if (!tables.endpoint(destination)) return undefined;
		const kind = tables.route(source)?.kind;
		if (kind === RouteKind.HOST) return "own";
		return kind === RouteKind.LOCAL_PODS || !prefersWire ? "forwarded" : "wire";
	}

	/** A packet of a flow from this port; `isAnswer`: of its other end. */
	input(flow: Flow, port: number, way: Way, isAnswer = false): Input {
		const { source, destination } = isAnswer
			? { source: flow.destination, destination: flow.source }
			: flow;
		const packet = build.ip({ source, destination }, segmentOf(flow, port, isAnswer));
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
		const macs = { source: GATEWAY_MAC, destination: POD_MAC };
		const ingressIfindex = way === "forwarded" ? { ingressIfindex: indexOf("wire0") } : {};
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
function segmentOf({ protocol, port: to }: Flow, from: number, isAnswer: boolean): build.Segment {
	const [sourcePort, destinationPort] = isAnswer ? [to, from] : [from, to];
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
			return build.echo(isAnswer ? "reply" : "request", from);
	}
}
