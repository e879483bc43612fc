/** The backends of a port, from the slices of its Service. Pure. */
import type { EndpointSliceObject } from "../../cluster/endpoint_slice_object.js";
import { labelOf, NO_LABELS } from "../../cluster/labels.js";
import { parseAddress } from "../../tables/address.js";
import { ServiceFlag } from "../../tables/generated.js";
import type { OwnNode } from "../own_node.js";
import { inServiceCidr, isHostAddress } from "./addresses.js";
import type { PortSpec } from "./claims.js";
import {
	type Candidate,
	candidatesOf,
	type EndpointSets,
	type Place,
	setsOf,
} from "./endpoint_sets.js";
import type { WantedBackend } from "./ports.js";

const ZONE_LABEL = "topology.kubernetes.io/zone";

/** @param isPod the endpoint's slice calls it a Pod; this is unverified */
export type IsUsable = (address: string, isPod: boolean) => boolean;

const LOCAL = ServiceFlag.INTERNAL_LOCAL | ServiceFlag.EXTERNAL_LOCAL;

const places = new WeakMap<OwnNode, Place>();

/** Where this Node is. */
export function placeOf(own: OwnNode): Place {
	let place = places.get(own);
	if (place === undefined) {
		const { name, labels } = own.self.node;
		place = { nodeName: name, zone: labelOf(labels ?? NO_LABELS, ZONE_LABEL) ?? "" };
		places.set(own, place);
	}
	return place;
}

/** All serving backends, of both sets. */
export function backendsOf(
	slices: readonly EndpointSliceObject[],
	port: PortSpec,
	place: Place,
	isUsable: IsUsable,
): WantedBackend[] {
	const { used } = endpointsOf(slices, port, place, isUsable).sets;
	return used.map(({ candidate: { address, port: number }, state }) => ({
		...{ address, port: number, state },
	}));
}

export function endpointsOf(
	slices: readonly EndpointSliceObject[],
	{ name, family, protocol, flags }: PortSpec,
	place: Place,
	isUsable: IsUsable,
): { candidates: Candidate[]; sets: EndpointSets } {
	const candidates = candidatesOf(slices, family, { name, protocol }).filter(
		({ address, record }) => isUsable(address, record.target !== undefined),
	);
	return { candidates, sets: setsOf(candidates, place, (flags & LOCAL) !== 0) };
}

/**
 * Why an endpoint gets no packets; undefined: it can be used. A packet to another Service's address would come back
 * and be translated again, in a loop.
 *
 * @param isService a load balancer or external IP is this address
 */
export function refusalOf(
	address: string,
	own: OwnNode,
	isService: (address: string) => boolean,
): string | undefined {
	const bytes = parseAddress(address);
	if (bytes === undefined || !isHostAddress(bytes))
		return "expected an address that a host can have";
	if (inServiceCidr(address, bytes, own)) return "expected an address outside the service CIDRs";
	if (isService(address)) return "expected an address that is no Service's";
	return undefined;
}

/** The most problems reported for one Service; more are counted, so that one Service does not hide the others. */
const ENDPOINT_PROBLEMS_MAX = 3;

/** @param refused by address: why it cannot be used */
export function endpointProblems(name: string, refused: ReadonlyMap<string, string>): string[] {
	const sentences = [...refused]
		.sort(([a], [b]) => (a < b ? -1 : 1))
		.map(([address, why]) => `Cannot use endpoint ${address} of Service ${name}: ${why}`);
	const more = sentences.length - ENDPOINT_PROBLEMS_MAX;
	if (more <= 0) return sentences;
	return [
		...sentences.slice(0, ENDPOINT_PROBLEMS_MAX),
		`Cannot use ${more} more endpoints of Service ${name}: expected addresses that can be used`,
	];
}
