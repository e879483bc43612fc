/**
 * Services (ARCHITECTURE, Services): the backend of a flow whose first packet goes to a Service's address. A flow
 * keeps its backend; for later packets only its existence is checked.
 *
 *  1. frontend    by address, protocol and port, else as a NodePort
 *  2. client      may it use this Service?
 *  3. set         the cluster's backends, or this Node's, by traffic policy
 *  4. backend     the client's own (session affinity), else the one that the context chooses
 *  5. end         ends a flow whose backend is gone, or whose destination has become a Service's
 */
import {
	BackendState,
	DropReason,
	type Flow,
	FlowDirection,
	FlowFlag,
	type Frontend,
	FrontendKind,
	NodeFlag,
	type Route,
	RouteFlag,
	RouteKind,
	type Service,
	ServiceFlag,
} from "../tables/generated.js";
import type { Candidate, Client, Decision, ServiceChoice } from "./decision.js";
import type { Draft } from "./draft.js";
import { originalKey } from "./flow.js";
import { beginsAgain } from "./flow_state.js";
import { type Packet, Protocol } from "./packet.js";
import { refuse } from "./refusal.js";
import { routeOf } from "./route.js";
import type { FlowEntry, TableReader } from "./table_reader.js";

const NS_PER_SECOND = 1_000_000_000n;
const WITH_PORTS: readonly number[] = [Protocol.TCP, Protocol.UDP, Protocol.SCTP];

/** True if an address with this route may be a Service's. */
export function mayServe({ kind, flags }: Route): boolean {
	return (
		kind === RouteKind.SERVICE || (flags & (RouteFlag.NODE_PORTS | RouteFlag.SERVICE_PORTS)) !== 0
	);
}

/** True if the client may use Services: Pods always, others where the Node serves all. */
export function serves({ node }: Draft, client: Client): boolean {
	return client === "pod" || (node.flags & NodeFlag.SERVES_ALL) !== 0;
}

/**
 * Serves a packet without a flow, whose destination has the route `route`. Returns the translation to a backend; a
 * Decision if it is refused; undefined if it goes to no Service, so that the route applies as it is.
 */
export function serve(
	draft: Draft,
	packet: Packet,
	route: Route,
	client: Client,
): ServiceChoice | Decision | undefined {
	if (!mayServe(route) || !serves(draft, client)) return undefined;
	const { tables, node } = draft;
	const { key } = packet;
	const isServices = route.kind === RouteKind.SERVICE;

	// Only the first fragment has ports, and an error is about another packet.
	if (packet.icmpError) {
		if (!isServices) return undefined;
		return draft.drop(DropReason.ICMP_UNRELATED, "an ICMP error about no flow of a Service");
	}
	if (packet.portsUnknown) return undefined;

	// 1
	const frontend = findFrontend(packet, route, tables);
	if (frontend === undefined) {
		if (!isServices) return undefined;
		if (tables.frontend(key.destination, 0, 0) === undefined) {
			const why = `${key.destination} is in a service CIDR, but no Service has it`;
			return draft.drop(DropReason.SERVICE_UNKNOWN_ADDRESS, why);
		}
		const why = `${key.destination} is a Service's address, but the Service has no such port`;
		return refuse(draft, packet, DropReason.SERVICE_UNKNOWN_PORT, why);
	}
	const index = frontend.service;
	const service = tables.service(index);
	const { destination, destinationPort } = key;
	draft.note(
		"service",
		`${endText(destination, destinationPort)} is the ${KIND_TEXT[frontend.kind]} of service ${index}`,
	);
	draft.decision.service = {
		index,
		frontend: { address: key.destination, port: key.destinationPort, kind: frontend.kind },
	};
	if (service === undefined)
		return refuse(draft, packet, DropReason.SERVICE_NO_ENDPOINTS, "the Service has no endpoints");

	// 2
	const isInternal = frontend.kind === FrontendKind.CLUSTER_IP;
	if (isInternal && client === "wire" && (node.flags & NodeFlag.SERVES_CLUSTER_IPS) === 0) {
		const why = "a cluster IP, and the client is outside the cluster";
		return draft.drop(DropReason.SERVICE_EXTERNAL_CLUSTER_IP, why);
	}
	if (
		frontend.kind === FrontendKind.LOAD_BALANCER &&
		service.flags & ServiceFlag.RANGES &&
		!tables.isInSourceRanges(index, key.source)
	) {
		const why = `${key.source} is in none of the Service's source ranges`;
		return draft.drop(DropReason.SERVICE_SOURCE_RANGE, why);
	}

	// 3
	const isLocal = isInternal
		? (service.flags & ServiceFlag.INTERNAL_LOCAL) !== 0
		: client === "wire" && (service.flags & ServiceFlag.EXTERNAL_LOCAL) !== 0;
	const set = isLocal ? "local" : "cluster";
	const candidates = membersOf(index, isLocal ? service.localSet : service.clusterSet, tables);
	draft.decision.service = { ...draft.decision.service, set, candidates };
	const how = { isInternal, isLocal, client };
	draft.note("set", setText(service, how, candidates.length));
	if (candidates.length === 0) {
		if (isLocal && countOf(service.clusterSet) > 0) {
			const why = "the traffic policy is Local, and the Service has no endpoints on this Node";
			return draft.drop(DropReason.SERVICE_NO_LOCAL_ENDPOINTS, why);
		}
		const why = "the Service has no endpoints";
		return refuse(draft, packet, DropReason.SERVICE_NO_ENDPOINTS, why);
	}

	// 4
	const kept = keptBackend(draft, packet, index, service, isLocal);
	const backend = draft.choose(kept === undefined ? candidates : [kept]);
	const by = kept === undefined ? "choice" : "affinity";
	draft.decision.service = { ...draft.decision.service, backend, by };
	const why = kept ? "session affinity" : `one of ${candidates.length}`;
	draft.note("backend", `${endText(backend.address, backend.port)}, ${why}`);
	return {
		backend,
		service: index,
		hasAffinity: service.affinity > 0,
		isExternalLocal: !isInternal && (service.flags & ServiceFlag.EXTERNAL_LOCAL) !== 0,
		target: { ...key, destination: backend.address, destinationPort: backend.port },
	};
}

/** The frontend of a packet's destination; undefined: none. */
export function findFrontend(
	{ key, family }: Packet,
	{ flags }: Route,
	tables: TableReader,
): Frontend | undefined {
	// Port and protocol 0 stand for the address itself.
	if (!WITH_PORTS.includes(key.protocol)) return undefined;
	const { destination, protocol, destinationPort } = key;
	const own = tables.frontend(destination, protocol, destinationPort);
	if (own !== undefined || (flags & RouteFlag.NODE_PORTS) === 0) return own;
	return tables.frontend(family === 4 ? "0.0.0.0" : "::", protocol, destinationPort);
}

function countOf(set: bigint): number {
	return Number(set >> 32n);
}

/** The backends of a set, without ids that have been given to another Service meanwhile. */
function membersOf(service: number, set: bigint, tables: TableReader): Candidate[] {
	const first = Number(set & 0xffffffffn);
	const members: Candidate[] = [];
	for (let place = first; place < first + countOf(set); place++) {
		const backend = backendOf(tables.serviceSlot(place), service, tables);
		if (backend !== undefined) members.push(backend);
	}
	return members;
}

function backendOf(id: number, service: number, tables: TableReader): Candidate | undefined {
	const backend = tables.backend(id);
	if (backend?.service !== service) return undefined;
	return { id, address: backend.address, port: backend.port };
}

/** The client's backend by session affinity, if it has not expired and is still in the set. */
function keptBackend(
	{ tables, now }: Draft,
	{ key }: Packet,
	index: number,
	{ affinity }: Service,
	isLocal: boolean,
): Candidate | undefined {
	const kept = affinity === 0 ? undefined : tables.affinity(key.source, index);
	if (kept === undefined || now - kept.used >= BigInt(affinity) * NS_PER_SECOND) return undefined;
	const inSet = isLocal ? BackendState.IN_LOCAL_SET : BackendState.IN_CLUSTER_SET;
	if ((tables.backendState(kept.backend) & inSet) === 0) return undefined;
	return backendOf(kept.backend, index, tables);
}

/** Notes the backend of a new flow for session affinity. */
export function keepAffinity(draft: Draft, packet: Packet, choice: ServiceChoice): void {
	const { service, backend, hasAffinity } = choice;
	if (!hasAffinity) return;
	const affinity = { used: draft.now, backend: backend.id };
	draft.decision.affinity = { client: packet.key.source, service, affinity };
}

/** The id of the flow's backend; 0: it has none. */
export function backendIdOf({ backend, backendUpper }: Flow): number {
	return (backendUpper << 16) | backend;
}

export function withBackend(flow: Flow, { id }: Candidate): Flow {
	return { ...flow, backend: id & 0xffff, backendUpper: id >> 16 };
}

/**
 * The packet's flow, unless its backend is gone: then the flow ends, and the packet counts as a first one. An answered
 * TCP connection goes on until its client opens another one.
 */
export function withLiveBackend(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
): FlowEntry | undefined {
	if (known === undefined || !asksForService(packet, known)) return known;
	const id = backendIdOf(known.flow);
	if (id === 0) return known;
	if (beginsAgain(known.flow, packet))
		return ended(draft, known, "its client opens another connection");
	const isThere = (draft.tables.backendState(id) & BackendState.SERVES) !== 0;
	return isThere || isAnsweredTcp(known) ? known : ended(draft, known, "its backend is gone");
}

/** The packet's flow without a backend, unless a Service has its destination now. Checked once per epoch. */
export function unlessServed(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	client: Client,
): FlowEntry | undefined {
	if (known === undefined || !asksForService(packet, known)) return known;
	if (backendIdOf(known.flow) !== 0 || known.flow.routeEpoch === draft.node.routeEpoch)
		return known;
	const route = routeOf(packet.key.destination, draft.tables);
	if (!mayServe(route) || !serves(draft, client)) return known;
	// An answered connection is translated already, by the Node's own stack or elsewhere.
	if (isAnsweredTcp(known) && !beginsAgain(known.flow, packet)) return known;
	const isServices =
		route.kind === RouteKind.SERVICE || findFrontend(packet, route, draft.tables) !== undefined;
	return isServices ? ended(draft, known, "its destination is a Service's now") : known;
}

function asksForService({ icmpError }: Packet, { direction }: FlowEntry): boolean {
	return !icmpError && direction === FlowDirection.ORIGINAL;
}

function isAnsweredTcp({ flow }: FlowEntry): boolean {
	return flow.protocol === Protocol.TCP && (flow.flags & FlowFlag.REPLIED) !== 0;
}

function ended(draft: Draft, { slot }: FlowEntry, why: string): undefined {
	draft.note("flow", `ends: ${why}`);
	draft.end(slot);
	return undefined;
}

/** The Service of a known flow, for `fairway explain`. */
export function noteService({ tables, decision }: Draft, known: FlowEntry | undefined): void {
	const id = known === undefined ? 0 : backendIdOf(known.flow);
	const backend = id === 0 ? undefined : tables.backend(id);
	if (known === undefined || backend === undefined) return;
	const { destination, destinationPort, protocol } = originalKey(known.flow);
	const any = destination.includes(":") ? "::" : "0.0.0.0";
	const frontend =
		tables.frontend(destination, protocol, destinationPort) ??
		tables.frontend(any, protocol, destinationPort);
	decision.service = {
		index: backend.service,
		frontend: { address: destination, port: destinationPort, kind: frontend?.kind },
		backend: { id, address: backend.address, port: backend.port },
		by: "flow",
	};
}

const KIND_TEXT: Readonly<Record<number, string>> = {
	[FrontendKind.CLUSTER_IP]: "cluster IP",
	[FrontendKind.NODE_PORT]: "NodePort",
	[FrontendKind.LOAD_BALANCER]: "load balancer IP",
	[FrontendKind.EXTERNAL_IP]: "external IP",
};

function endText(address: string, port: number): string {
	return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** For `fairway explain`: which set of backends is used, why, and its size. */
function setText(
	{ flags }: Service,
	{ isInternal, isLocal, client }: { isInternal: boolean; isLocal: boolean; client: Client },
	count: number,
): string {
	const policy = isInternal ? "internal" : "external";
	const local = isInternal ? ServiceFlag.INTERNAL_LOCAL : ServiceFlag.EXTERNAL_LOCAL;
	const many = `${count} endpoint${count === 1 ? "" : "s"}`;
	if (isLocal) return `${many} of this Node: the ${policy} traffic policy is Local`;
	if (flags & local)
		return `${many} of the cluster: the ${policy} traffic policy Local is not for ${client === "pod" ? "Pods" : "processes"} of this Node`;
	return `${many} of the cluster: the ${policy} traffic policy is Cluster`;
}
