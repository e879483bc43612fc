/** What the agent changes in the tables of Services and of network policy while packets flow. */
import { BackendState, FrontendKind, Limit, RouteKind } from "../../src/tables/generated.js";
import type { MemoryTables } from "./memory_tables.js";
import { type EndpointPolicies, type Policies, setPoliciesOf, writePolicies } from "./policies.js";
import { type ServicePort, servicePorts, setBackends } from "./services.js";

export type TableChange =
	/** Other sets: ids of backends. Who is in none serves still, but for those that are gone. */
	| { kind: "sets"; service: number; cluster: number[]; local: number[]; gone: number[] }
	/** The cluster IP's port, or the NodePort, comes or goes. */
	| { kind: "frontend"; service: number; of: "clusterIP" | "nodePort"; isThere: boolean }
	/** An address that was outside becomes an external IP with one port. */
	| { kind: "claim"; service: number; address: string; port: number }
	/** Other policies altogether. */
	| { kind: "policies"; policies: Policies }
	/** One Pod of this Node has others. */
	| { kind: "endpoint"; pod: "A" | "B"; policies: EndpointPolicies }
	/** An address of a peer's is in another class. */
	| { kind: "identity"; peer: number; address: string; class: number };

export function apply(tables: MemoryTables, change: TableChange): void {
	switch (change.kind) {
		case "policies":
			writePolicies(tables, change.policies);
			break;
		case "endpoint":
			setPoliciesOf(tables, change.pod, change.policies);
			break;
		case "identity":
			tables.identities.set(change.address, change.class);
			if (raisePolicyEpoch(tables, change.peer)) return;
			break;
		default:
			if (!applyToServices(tables, change)) return;
	}
	tables.config = { ...tables.config, routeEpoch: tables.config.routeEpoch + 1 };
}

/** For both families. False: it has begun anew, and a flow that is old enough would not notice. */
function raisePolicyEpoch(tables: MemoryTables, peer: number): boolean {
	let isHigher = true;
	for (const index of [peer * 2, peer * 2 + 1]) {
		const entry = tables.peers.get(index)!;
		const policyEpoch = (entry.policyEpoch + 1) & 0xffff;
		tables.peers.set(index, { ...entry, policyEpoch });
		isHigher &&= policyEpoch > 0;
	}
	return isHigher;
}

type ServiceChange = Extract<TableChange, { service: number }>;

/** Returns whether routes have changed. */
function applyToServices(tables: MemoryTables, change: ServiceChange): boolean {
	const service = servicePorts().find(({ index }) => index === change.service)!;
	if (change.kind === "sets") {
		setBackends(tables, service, change.cluster, change.local);
		for (const id of change.gone) tables.setBackendState(id, BackendState.RESTS);
		return false;
	}
	if (change.kind === "frontend") {
		const [key, kind] = frontendOf(service, change.of);
		if (change.isThere) tables.frontends.set(key, { service: service.index, kind });
		else tables.frontends.delete(key);
	} else {
		const { address, port } = change;
		const route = { kind: RouteKind.SERVICE, flags: 0, mtu: 0, peer: Limit.NO_PEER };
		tables.routes.set(`${address}/${service.family === 4 ? 32 : 128}`, route);
		const frontend = { service: service.index, kind: FrontendKind.EXTERNAL_IP };
		tables.frontends.set(`${address} 0 0`, { service: 0, kind: FrontendKind.ADDRESS });
		tables.frontends.set(`${address} ${service.protocol} ${port}`, frontend);
	}
	return true;
}

function frontendOf(
	{ family, protocol, clusterIP, port, nodePort }: ServicePort,
	of: "clusterIP" | "nodePort",
): [string, number] {
	if (of === "clusterIP") return [`${clusterIP} ${protocol} ${port}`, FrontendKind.CLUSTER_IP];
	const any = family === 4 ? "0.0.0.0" : "::";
	return [`${any} ${protocol} ${nodePort}`, FrontendKind.NODE_PORT];
}
