/**
 * `GET /services`: a row for each port of each Service that Fairway serves, of both families, with the path to
 * each backend as it is now.
 */
import type { ExplainPath } from "../api/messages/paths.js";
import type {
	BackendState,
	BackendStatus,
	FrontendStatus,
	ServiceStatus,
	ServicesRequest,
} from "../api/messages/services.js";
import { RequestError } from "../api/server.js";
import { protocolName } from "../cluster/service_ports.js";
import type { PeerView } from "../compile/compile.js";

import type { ServicePortView, ServiceView, ServiceViews } from "../compile/services/view.js";
import type { TableReader } from "../forwarder/forwarder.js";
import { peerIndex } from "../forwarder/route.js";
import { familyOf } from "../tables/address.js";
import { RouteKind } from "../tables/generated.js";

export interface PlaceContext {
	/** This Node. */
	node: string;
	tables: Pick<TableReader, "route" | "endpoint">;
	/** By index in peers. */
	peer: (index: number) => Pick<PeerView, "node" | "path"> | undefined;
	/** Other Nodes by transport address. */
	nodes: ReadonlyMap<string, string>;
}

export type FrontendName = FrontendStatus["kind"];

/** The port with this index in `services`, of the Services with these keys. */
export function findServicePort(
	services: ServiceViews,
	keys: Iterable<string>,
	index: number,
): { service: ServiceView; port: ServicePortView } | undefined {
	for (const key of keys) {
		const service = services.view(key);
		const port = service?.ports.find((one) => one.index === index);
		if (service !== undefined && port !== undefined) return { service, port };
	}
	return undefined;
}

/** Its key; undefined: all Services. @throws RequestError */
export function readService(request: unknown): string | undefined {
	if (request === undefined) return undefined;
	const { namespace, name } = (request ?? {}) as Partial<Record<keyof ServicesRequest, unknown>>;
	if (typeof namespace === "string" && typeof name === "string") return `${namespace}/${name}`;
	throw new RequestError(400, "Cannot show Services: expected a namespace and a name, got neither");
}

/**
 * The rows of each Service, by namespace and name; the ports in the Service's order.
 *
 * @param key of one Service; undefined: all
 * @throws RequestError
 */
export function* serviceRows(
	services: ServiceViews,
	key: string | undefined,
	context: PlaceContext,
): Generator<ServiceStatus[]> {
	if (key !== undefined) {
		const view = services.view(key);
		if (view !== undefined && view.ports.length > 0) return yield rowsOf(view, context);
		throw new RequestError(
			404,
			`Cannot show Service ${key}: expected one that Fairway serves, got one that is unknown, or served by another proxy`,
		);
	}
	for (const one of [...services.keys()].sort()) {
		const view = services.view(one);
		if (view !== undefined) yield rowsOf(view, context);
	}
}

function rowsOf(
	{ namespace, name, type, ports }: ServiceView,
	context: PlaceContext,
): ServiceStatus[] {
	const rows = new Map<string, ServiceStatus>();
	for (const view of ports) {
		const { port, name: portName } = view;
		const protocol = protocolName(view.protocol);
		const key = `${protocol} ${port} ${portName}`;
		let row = rows.get(key);
		if (row === undefined) {
			const none = { frontends: [], backends: [], why: [], isFormer: false };
			row = { ...{ namespace, name, port, portName, protocol, type }, ...none };
			rows.set(key, row);
		}
		row.frontends.push(...view.frontends);
		row.backends.push(...backendsOf(view, context));
		if (!row.why.includes(view.why)) row.why.push(view.why);
	}
	return [...rows.values()];
}

function backendsOf({ backends }: ServicePortView, context: PlaceContext): BackendStatus[] {
	return backends.flatMap((backend) => {
		const state = stateOf(backend);
		if (state === undefined) return [];
		const { address, port } = backend;
		return [{ address, port, ...placeOf(backend, context), state }];
	});
}

/** undefined: the backend is in no set. */
function stateOf({
	isReady,
	isServing,
	isTerminating,
}: ServicePortView["backends"][number]): BackendState | undefined {
	if (isTerminating) return "terminating";
	return isReady ? "ready" : isServing ? "serving" : undefined;
}

/**
 * The location of an endpoint, and the path to it.
 *
 * @param node the Node in its EndpointSlice; "": none
 */
export function placeOf(
	{ address, node }: { address: string; node: string },
	{ node: self, tables, peer, nodes }: PlaceContext,
): { node: string; path: ExplainPath } {
	const route = tables.route(address);
	switch (route?.kind) {
		case RouteKind.LOCAL_PODS:
			return { node: self, path: "local" };
		case RouteKind.HOST:
			return { node: self, path: "host" };
		case RouteKind.PEER: {
			const view = peer(peerIndex(route.peer, familyOf(address)));
			return { node: view?.node ?? node, path: view?.path ?? "down" };
		}
		default: {
			// A Pod of another Node has an address in its Node's pod CIDRs, or its Node's own address.
			const at = nodes.get(address) ?? node;
			return { node: at, path: at === "" ? "outside" : "host" };
		}
	}
}

/** The Node whose pod CIDRs contain an address; undefined: none that is known. */
export function podNode(
	address: string,
	{ node: self, tables, peer }: PlaceContext,
): string | undefined {
	const route = tables.route(address);
	if (route?.kind === RouteKind.LOCAL_PODS) return self;
	if (route?.kind !== RouteKind.PEER) return undefined;
	return peer(peerIndex(route.peer, familyOf(address)))?.node;
}
