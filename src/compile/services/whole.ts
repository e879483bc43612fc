/**
 * The tables of Services, the obvious way: from everything, with indexes in the order of names. The agent runs
 * `ServicesArea` (area.ts); a test checks that both have the same meaning.
 */

import { nodeHash as nameHash } from "../../cluster/node_hash.js";
import type { ServiceCatalogReader } from "../../cluster/service_catalog.js";
import type { NodeObject } from "../../cluster/snapshot.js";
import { BackendState, FrontendKind } from "../../tables/generated.js";
import { noServiceMaps, type ServiceMaps } from "../../tables/tables.js";
import type { OwnNode } from "../own_node.js";
import { ClusterAddresses } from "./addresses.js";
import { type Claim, specOf } from "./claims.js";
import { backendsOf, endpointProblems, placeOf, refusalOf } from "./endpoints_of.js";
import { addressKeyOf, isNodePort, meaningOf } from "./places.js";
import type { ServiceRoute } from "./routes.js";

export interface WholeServices {
	maps: ServiceMaps;
	/** By address. */
	routes: Map<string, ServiceRoute>;
	problems: string[];
}

export function compileServices(
	own: OwnNode,
	nodes: ReadonlyMap<string, NodeObject>,
	catalog: ServiceCatalogReader,
): WholeServices {
	const maps = noServiceMaps();
	const routes = new Map<string, ServiceRoute>();
	const problems: string[] = [];
	const addresses = new ClusterAddresses();
	for (const [name, node] of nodes) addresses.set(name, node);

	const claimed = new Map<string, { service: Known["service"]; claim: Claim; tag: Known }[]>();
	const all = [...catalog.keys()].sort().flatMap((key): Known[] => {
		const entry = catalog.get(key);
		if (entry === undefined) return [];
		return [{ ...entry, spec: specOf(entry.service, own.config), indexes: [] }];
	});
	let index = 0;
	for (const known of all) {
		known.indexes = known.spec.ports.map(() => ++index);
		for (const claim of known.spec.claims) {
			const claims = claimed.get(claim.place) ?? [];
			claims.push({ service: known.service, claim, tag: known });
			claimed.set(claim.place, claims);
		}
	}

	const services = new Set<string>();
	for (const [place, claims] of claimed) {
		const use = isNodePort(place) ? "free" : addresses.useOf(place, own);
		const meaning = meaningOf(place, claims, use);
		problems.push(...meaning.problems);
		if (meaning.isWhole)
			maps.frontends.set(addressKeyOf(place), { service: 0, kind: FrontendKind.ADDRESS });
		if (meaning.isWhole && use === "free") services.add(place);
		for (const [key, { owner, port, kind }] of meaning.frontends)
			maps.frontends.set(key, { service: owner.indexes[port]!, kind });
		if (meaning.route !== undefined) routes.set(place, meaning.route);
	}

	let slot = 0;
	let id = 0;
	for (const { service, slices, spec, indexes } of all) {
		const refused = new Map<string, string>();
		for (const [at, port] of spec.ports.entries()) {
			const backends = backendsOf(slices, port, placeOf(own), (address) => {
				const why = refusalOf(address, own, (other) => services.has(other));
				if (why !== undefined) refused.set(address, why);
				return why === undefined;
			});
			const ids = backends.map(({ address, port: number, state }) => {
				maps.backends.set(++id, { address, port: number, service: indexes[at]! });
				const word = maps.backendStates.get(id >> 3) ?? 0n;
				maps.backendStates.set(id >> 3, word | (BigInt(state) << BigInt((id & 7) * 8)));
				return { id, state };
			});
			const place = (bit: number): bigint => {
				const members = ids.filter(({ state }) => (state & bit) !== 0);
				const first = slot;
				for (const { id } of members) maps.serviceSlots.set(slot++, id);
				return members.length === 0 ? 0n : BigInt(first) | (BigInt(members.length) << 32n);
			};
			maps.services.set(indexes[at]!, {
				clusterSet: place(BackendState.IN_CLUSTER_SET),
				localSet: place(BackendState.IN_LOCAL_SET),
				nameHash: nameHash(port.id),
				affinity: port.affinity,
				flags: port.flags,
			});
			for (const range of port.ranges) maps.serviceRanges.set(`${indexes[at]} ${range}`, 1);
		}
		const name = `${service.namespace}/${service.name}`;
		problems.push(...spec.problems, ...endpointProblems(name, refused));
	}
	return { maps, routes, problems: problems.sort() };
}

interface Known {
	service: NonNullable<ReturnType<ServiceCatalogReader["get"]>>["service"];
	slices: NonNullable<ReturnType<ServiceCatalogReader["get"]>>["slices"];
	spec: ReturnType<typeof specOf>;
	/** By port. */
	indexes: number[];
}
