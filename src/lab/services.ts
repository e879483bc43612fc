/**
 * Traffic to the Services of a lab: which clients reach which endpoints, and how.
 *
 *  1. the Services that Fairway serves, when every agent knows their endpoints
 *  2. clients: a Pod and a Node by the cluster IP, the outside host by a NodePort
 *  3. many short connections, each of which may reach any endpoint; a long one for the throughput
 */
import type { ServiceStatus } from "../api/messages/services.js";
import type { Lab } from "./lab.js";
import type { Measurement } from "./measure.js";
import { nodeOf } from "./pairs.js";
import { type Family, familyOf } from "./subnet.js";
import { until } from "./until.js";

/** In display order. */
export const serviceKinds = {
	podToService: "Pod → Service",
	nodeToService: "Node → Service",
	outsideToService: "outside → NodePort",
} as const;

export type ServiceKind = keyof typeof serviceKinds;

export interface ServicePair {
	kind: ServiceKind;
	family: Family;
	/** A machine. */
	from: string;
	/** For people: name and port. */
	to: string;
	address: string;
	port: number;
	/** Machines by address. */
	backends: Map<string, string>;
	/** Port of the backends. */
	targetPort: number;
}

/** With three endpoints, one of them is missed once in some ten million runs. */
const CONNECTIONS = 40;
const LONG_BYTES = 64_000_000;
const ENDPOINTS_MS = 10_000;

/** Pairs of each kind for the TCP ports of each Service whose endpoints are machines of the lab. */
export async function servicePairs(lab: Lab): Promise<ServicePair[]> {
	const [agent] = lab.agents.values();
	if (agent === undefined || (await agent.services()).length === 0) return [];
	const services = await until(
		"all Nodes know the endpoints of Services",
		() => agreed(lab),
		ENDPOINTS_MS,
	);
	return services
		.filter(({ protocol }) => protocol === "TCP")
		.flatMap((service) => ([4, 6] as const).flatMap((family) => pairsOf(lab, service, family)));
}

/** The Services as every agent has them; undefined: some differ, or have no endpoints yet. */
async function agreed(lab: Lab): Promise<ServiceStatus[] | undefined> {
	const all = await Promise.all([...lab.agents.values()].map((agent) => agent.services()));
	const texts = all.map((services) =>
		JSON.stringify(services.map(({ backends }) => backends.map(({ address }) => address).sort())),
	);
	const [first] = all;
	const isEmpty = first?.some(({ backends }) => backends.length === 0) ?? true;
	return isEmpty || new Set(texts).size > 1 ? undefined : first;
}

function pairsOf(lab: Lab, service: ServiceStatus, family: Family): ServicePair[] {
	const { name, frontends, backends } = service;
	const of = (kind: string) =>
		frontends.find((one) => one.kind === kind && familyOf(one.address) === family);
	const machines = new Map<string, string>();
	for (const { address } of backends) {
		const machine = machineAt(lab, address);
		if (familyOf(address) === family && machine !== undefined) machines.set(address, machine);
	}
	const [target] = backends;
	if (machines.size === 0 || target === undefined) return [];
	const pair = (
		kind: ServiceKind,
		from: string | undefined,
		to: { address: string; port: number } | undefined,
	) =>
		from === undefined || to === undefined || !lab.hasFamily(from, family)
			? []
			: [
					{
						...{ kind, family, from, to: `${name}:${to.port}` },
						...{ address: to.address, port: to.port },
						...{ backends: machines, targetPort: target.port },
					},
				];
	// The first Pod is none of the endpoints, so that it never speaks to itself.
	const isEndpoint = new Set(machines.values());
	const pod = lab.topology.pods.find(
		({ label }) => lab.attachments.has(label) && !isEndpoint.has(label),
	);
	const node = lab.topology.nodes.find((one) => one.agent);
	const nodePort = of("nodePort");
	const clusterIP = of("clusterIP");
	return [
		...pair("podToService", pod?.label, clusterIP),
		...pair("nodeToService", node?.name, clusterIP),
		...pair(
			"outsideToService",
			lab.topology.outside === undefined ? undefined : "outside",
			nodePort && node && { address: lab.address(node.name, family), port: nodePort.port },
		),
	];
}

function machineAt(lab: Lab, address: string): string | undefined {
	for (const [label, { addresses }] of lab.attachments)
		if (Object.values(addresses).includes(address)) return label;
	return undefined;
}

export async function measureService(lab: Lab, pair: ServicePair): Promise<Measurement> {
	const { kind, family, from, address, port, backends, targetPort } = pair;
	const faults: string[] = [];
	const note = (error: Error): undefined => {
		faults.push(error.message.split("\n", 1)[0] ?? "");
		return undefined;
	};
	const source = lab.address(from, family);
	// What comes from outside is decided where it arrives.
	const decides = nodeOf(lab, from) ?? lab.topology.nodes.find((one) => one.agent)?.name ?? "";
	const explained = await lab.agents
		.get(decides)
		?.explain({ source, destination: address, protocol: "tcp", destinationPort: port })
		.catch(note);
	const servers = await Promise.all([...backends.values()].map((label) => lab.station(label)));
	for (const server of servers) await server.order("tcpServe", { port: targetPort });
	const counts = new Map([...backends.keys()].map((one) => [one, 0]));
	const seen = new Set<string>();
	let throughput: number | undefined;
	try {
		const client = await lab.station(from);
		const send = (bytes: number) =>
			client.order("tcpSend", { host: address, port, bytes, seed: 1, timeoutMs: 5_000 });
		for (let i = 0; i < CONNECTIONS && faults.length === 0; i++) {
			const receipt = await send(1_000).catch(note);
			if (receipt === undefined) break;
			counts.set(receipt.server, (counts.get(receipt.server) ?? 0) + 1);
			seen.add(receipt.address);
		}
		const long = faults.length === 0 ? await send(LONG_BYTES).catch(note) : undefined;
		if (long?.whole === false) faults.push("data has changed on its way");
		throughput = long && (long.bytes * 8) / (long.milliseconds / 1000);
	} finally {
		for (const server of servers) await server.order("close", { port: targetPort });
	}
	const spread = [...counts].map(([one, count]) => `${backends.get(one) ?? one} ${count}`);
	for (const [one, count] of counts)
		if (count === 0) faults.push(`no connection reached ${backends.get(one) ?? one}`);
	if (kind === "podToService" && [...seen].some((one) => one !== source))
		faults.push(`its endpoints saw ${[...seen].join(", ")} as the client`);
	if (explained?.drop != null) faults.push(`explain says it is dropped: ${explained.reason}`);
	const seenAs = seen.size === 0 ? undefined : [...seen].join(", ");
	return {
		...{ pair, explained, roundTrip: null, lost: 0, throughput, seenAs, faults },
		spread: `connections: ${spread.join(", ")}`,
		counted: { direct: 0, tunnel: 0 },
	};
}
