/**
 * What an address or a NodePort is, from all Services that claim it. Pure, and the same whatever came first.
 *
 *  1. cluster IPs before load balancer IPs before external IPs; then the older Service, then by name
 *  2. a cluster IP is one Service's alone
 *  3. other addresses may be shared: each port is the first one's that has it
 *  4. a Node's own address remains the Node's, except for the Services' ports
 */

import { olderFirst } from "../../cluster/seniority.js";
import type { ServiceObject } from "../../cluster/service_object.js";
import { keyOfService } from "../../cluster/service_object.js";
import { protocolName } from "../../cluster/service_ports.js";
import { FrontendKind, RouteFlag, RouteKind } from "../../tables/generated.js";
import type { AddressUse } from "./addresses.js";
import { type Claim, frontendKeyOf } from "./claims.js";

export interface Claimant<T> {
	service: ServiceObject;
	claim: Claim;
	/** Whatever the caller knows it by. */
	tag: T;
}

export interface PlaceMeaning<T> {
	/** undefined: it needs none. */
	route: { kind: RouteKind; flags: number } | undefined;
	/** The whole address is a Service's. */
	isWhole: boolean;
	/** By key; `port`: index in the ports of the owner's spec. */
	frontends: Map<string, { owner: T; port: number; kind: FrontendKind }>;
	problems: string[];
}

const RANK: Readonly<Partial<Record<FrontendKind, number>>> = {
	[FrontendKind.CLUSTER_IP]: 0,
	[FrontendKind.LOAD_BALANCER]: 1,
	[FrontendKind.EXTERNAL_IP]: 2,
};

/** The key of the entry by which all ports of an address belong to a Service. */
export function addressKeyOf(address: string): string {
	return frontendKeyOf(address, 0, 0);
}

export function isNodePort(place: string): boolean {
	return place.includes(" ");
}

/** @param use of the address; whatever where the place is a NodePort */
export function meaningOf<T>(
	place: string,
	claimants: readonly Claimant<T>[],
	use: AddressUse,
): PlaceMeaning<T> {
	const meaning: PlaceMeaning<T> = {
		...{ route: undefined, isWhole: false },
		frontends: new Map(),
		problems: [],
	};
	const sorted =
		claimants.length > 1 ? [...claimants].sort((a, b) => compareClaimants(a, b)) : claimants;
	if (isNodePort(place)) {
		takePorts(place, sorted, meaning);
		return meaning;
	}
	const refuse = (claimant: Claimant<T>, why: string) => {
		if (!claimant.claim.isOthers)
			meaning.problems.push(
				`Cannot serve Service ${keyOfService(claimant.service)} at ${place}: ${why}`,
			);
	};
	if (use === "unusable" || use === "pods") {
		const wanted = use === "pods" ? "outside all pod CIDRs" : "that a host can have";
		for (const claimant of sorted) refuse(claimant, `expected an address ${wanted}`);
		return meaning;
	}
	if (use === "own" || use === "node") {
		const isCluster = ({ claim }: Claimant<T>) => claim.kind === FrontendKind.CLUSTER_IP;
		for (const claimant of sorted.filter(isCluster))
			refuse(claimant, "expected a cluster IP that is no Node's address");
		takePorts(
			place,
			sorted.filter((claimant) => !isCluster(claimant)),
			meaning,
		);
		const kind = use === "own" ? RouteKind.HOST : RouteKind.OUTSIDE;
		if (meaning.frontends.size > 0) meaning.route = { kind, flags: RouteFlag.SERVICE_PORTS };
		return meaning;
	}
	const [first, ...rest] = sorted;
	if (first === undefined) return meaning;
	const served =
		first.claim.kind === FrontendKind.CLUSTER_IP
			? [first].filter(({ claim }) => !claim.isOthers)
			: sorted.filter(({ claim }) => !claim.isOthers);
	if (first.claim.kind === FrontendKind.CLUSTER_IP)
		for (const claimant of rest)
			refuse(claimant, `it is the cluster IP of Service ${keyOfService(first.service)}`);
	if (served.length === 0) {
		meaning.route = { kind: RouteKind.STACK, flags: 0 };
		return meaning;
	}
	takePorts(place, served, meaning);
	meaning.isWhole = true;
	if (use === "free") meaning.route = { kind: RouteKind.SERVICE, flags: 0 };
	return meaning;
}

function takePorts<T>(
	place: string,
	claimants: readonly Claimant<T>[],
	{ frontends, problems }: PlaceMeaning<T>,
): void {
	const owners = new Map<string, ServiceObject>();
	for (const { service, claim, tag } of claimants)
		for (const [key, port] of claim.frontends) {
			const owner = owners.get(key);
			if (owner === undefined) {
				owners.set(key, service);
				frontends.set(key, { owner: tag, port, kind: claim.kind });
				continue;
			}
			const [, protocol, number] = key.split(" ");
			const what = `${protocolName(Number(protocol))} ${isNodePort(place) ? "NodePort" : "port"}`;
			problems.push(
				`Cannot serve ${what} ${number} of Service ${keyOfService(service)}${isNodePort(place) ? "" : ` at ${place}`}: Service ${keyOfService(owner)} has it`,
			);
		}
}

function compareClaimants<T>(a: Claimant<T>, b: Claimant<T>): number {
	const rank = (RANK[a.claim.kind] ?? 0) - (RANK[b.claim.kind] ?? 0);
	if (rank !== 0) return rank;
	const age = olderFirst(a.service, b.service);
	if (age !== 0) return age;
	return keyOfService(a.service) < keyOfService(b.service) ? -1 : 1;
}
