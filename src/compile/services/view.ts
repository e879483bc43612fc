/** A Service as users see it: its ports, where they are reached, their endpoints, and which of them are used why. */
import type { ServiceEntry } from "../../cluster/service_catalog.js";
import type { ServiceType } from "../../cluster/service_object.js";
import { BackendState, FrontendKind } from "../../tables/generated.js";
import type { ServiceSpec } from "./claims.js";
import type { Candidate, EndpointSets, Place } from "./endpoint_sets.js";
import { endpointsOf, type IsUsable } from "./endpoints_of.js";
import type { Port } from "./ports.js";

export interface ServiceView {
	namespace: string;
	name: string;
	type: ServiceType;
	/** One for each family. */
	ports: ServicePortView[];
	/** Ready endpoints on this Node. */
	localReady: number;
	/** 0: none. */
	healthCheckNodePort: number;
}

/** All Services, each made when it is asked for. */
export interface ServiceViews {
	/** "namespace/name" of all that are known, ours or not; in no order. */
	keys(): Iterable<string>;
	/** Undefined: there is no such Service. */
	view(key: string): ServiceView | undefined;
}

export interface ServicePortView {
	name: string;
	port: number;
	/** IP protocol number. */
	protocol: number;
	family: 4 | 6;
	/** In `services`; 0: none. */
	index: number;
	frontends: FrontendView[];
	backends: BackendView[];
	/** One plain sentence: which endpoints are used, and why these. */
	why: string;
}

export interface FrontendView {
	/** For a NodePort "0.0.0.0" or "::", for all addresses of the Node. */
	address: string;
	port: number;
	kind: "clusterIP" | "nodePort" | "loadBalancer" | "externalIP";
}

export interface BackendView {
	/** In `backends`; 0: none. */
	id: number;
	address: string;
	port: number;
	/** "": not said. */
	node: string;
	isReady: boolean;
	isServing: boolean;
	isTerminating: boolean;
	inClusterSet: boolean;
	inLocalSet: boolean;
}

/** What the area knows of it. */
export interface ViewContext {
	place: Place;
	ports: readonly (Port | undefined)[];
	isUsable: IsUsable;
	/** False: another Service has this address or port. */
	ownsFrontend: (key: string, port: Port) => boolean;
}

const KINDS: Readonly<Partial<Record<FrontendKind, FrontendView["kind"]>>> = {
	[FrontendKind.CLUSTER_IP]: "clusterIP",
	[FrontendKind.NODE_PORT]: "nodePort",
	[FrontendKind.LOAD_BALANCER]: "loadBalancer",
	[FrontendKind.EXTERNAL_IP]: "externalIP",
};

export function viewOf(
	{ service, slices }: ServiceEntry,
	spec: ServiceSpec,
	{ place, ports, isUsable, ownsFrontend }: ViewContext,
): ServiceView {
	const { namespace, name, type, healthCheckNodePort } = service;
	const local = new Set<string>();
	// Once for all ports: a Service may have thousands.
	const claimed = spec.ports.map((): { key: string; kind: FrontendKind }[] => []);
	for (const { kind, frontends } of spec.claims)
		for (const [key, at] of frontends) claimed[at]?.push({ key, kind });
	const views = spec.ports.map((wanted, at): ServicePortView => {
		const port = ports[at];
		const { candidates, sets } = endpointsOf(slices, wanted, place, isUsable);
		for (const { address, record } of candidates)
			if (record.isReady && record.node === place.nodeName) local.add(record.target ?? address);
		const ids = new Map(
			port?.backends.map(({ id, value }) => [`${value.address} ${value.port}`, id]),
		);
		const states = new Map(sets.used.map(({ candidate, state }) => [candidate, state]));
		const frontends = (claimed[at] ?? []).flatMap(({ key, kind }): FrontendView[] => {
			const known = KINDS[kind];
			if (known === undefined || port === undefined || !ownsFrontend(key, port)) return [];
			const number = kind === FrontendKind.NODE_PORT ? wanted.nodePort : wanted.port;
			return [{ address: key.split(" ")[0] ?? "", port: number, kind: known }];
		});
		return {
			...{ name: wanted.name, port: wanted.port, protocol: wanted.protocol },
			...{ family: wanted.family, index: port?.index ?? 0, frontends },
			backends: candidates.map((candidate): BackendView => {
				const { address, port: number, record } = candidate;
				const state = states.get(candidate) ?? 0;
				return {
					id: ids.get(`${address} ${number}`) ?? 0,
					...{ address, port: number, node: record.node },
					isReady: record.isReady,
					isServing: record.isServing,
					isTerminating: record.isTerminating,
					inClusterSet: (state & BackendState.IN_CLUSTER_SET) !== 0,
					inLocalSet: (state & BackendState.IN_LOCAL_SET) !== 0,
				};
			}),
			why: sentence(candidates, sets, place),
		};
	});
	return {
		...{ namespace, name, type, ports: views },
		...{ localReady: local.size, healthCheckNodePort },
	};
}

function sentence(
	candidates: readonly Candidate[],
	{ used, topology, clusterFellBack }: EndpointSets,
	{ zone }: Place,
): string {
	const count = used.filter(({ state }) => (state & BackendState.IN_CLUSTER_SET) !== 0).length;
	const ready = candidates.filter(({ record }) => record.isReady).length;
	if (candidates.length === 0) return "There are no endpoints.";
	if (count === 0) return `None of ${endpoints(candidates.length)} is ready.`;
	if (clusterFellBack)
		return `No endpoint is ready: ${endpoints(count)} that ${count === 1 ? "is" : "are"} terminating and still serving.`;
	if (topology === "node")
		return `${count} of ${endpoints(ready)} that are ready: those with a hint for this Node, and all have hints.`;
	if (topology === "zone")
		return `${count} of ${endpoints(ready)} that are ready: those with a hint for the zone ${zone}, and all have hints.`;
	return count === candidates.length
		? `All ${endpoints(count)}, ready.`
		: `All ${endpoints(count)} that ${count === 1 ? "is" : "are"} ready, of ${candidates.length}.`;
}

function endpoints(count: number): string {
	return count === 1 ? "1 endpoint" : `${count} endpoints`;
}
