/** Which addresses and NodePorts a Service claims, and for which of its ports. Pure. */
import type { ServiceObject } from "../../cluster/service_object.js";
import { NO_TEXTS } from "../../cluster/shared.js";
import type { Config, PortRange } from "../../config/config.js";
import { familyOf } from "../../tables/address.js";
import { FrontendKind, ServiceFlag } from "../../tables/generated.js";
import { servedBy } from "./is_ours.js";

/** A port of a Service in one family: an entry of `services`. */
export interface PortSpec {
	/** "NAMESPACE/NAME PORTNAME PROTOCOL FAMILY": the owner of the entry. */
	id: string;
	name: string;
	family: 4 | 6;
	/** IP protocol number. */
	protocol: number;
	port: number;
	/** 0: none, or none that is served. */
	nodePort: number;
	/** Seconds; 0: none. */
	affinity: number;
	/** ServiceFlag */
	flags: number;
	/** Source ranges of its load balancer IPs. */
	ranges: readonly string[];
}

export interface Claim {
	/**
	 * What only one Service may have, or several may share: an address, or a NodePort as the key of its
	 * frontend.
	 */
	place: string;
	kind: FrontendKind;
	/** Served by others: packets for this address are left to the Node's own stack. */
	isOthers: boolean;
	/** Keys of frontends → index in `ports`. */
	frontends: ReadonlyMap<string, number>;
}

export interface ServiceSpec {
	claims: Claim[];
	ports: PortSpec[];
	problems: string[];
}

/** The address of NodePorts in the keys of frontends: it stands for each of this Node's that serves them. */
const NODE_PORT_ADDRESS = { 4: "0.0.0.0", 6: "::" } as const;

const NOTHING: ServiceSpec = { claims: [], ports: [], problems: [] };

export function frontendKeyOf(address: string, protocol: number, port: number): string {
	return `${address} ${protocol} ${port}`;
}

export function specOf(
	service: ServiceObject,
	config: Pick<Config, "fairwayProxy" | "snat">,
): ServiceSpec {
	const by = servedBy(service, config);
	if (by === "nobody") return NOTHING;
	const { proxyAll, proxyLoadBalancerIPs, externalIPs } = config.fairwayProxy;
	const { CLUSTER_IP, LOAD_BALANCER, EXTERNAL_IP, NODE_PORT } = FrontendKind;
	const isOurs = by === "us";
	// What Fairway does not serve is left to the Node's own stack where others serve it, else it is not served.
	const servesBalanced = isOurs && proxyLoadBalancerIPs;
	const servesExternal = isOurs && proxyAll && externalIPs;
	const families = service.clusterIPs.map(familyOf);
	const addresses: { address: string; kind: FrontendKind; ours: boolean }[] = [
		...service.clusterIPs.map((address) => ({ address, kind: CLUSTER_IP, ours: isOurs })),
		...service.loadBalancerIPs
			.filter(() => servesBalanced || !isOurs || !proxyAll)
			.map((address) => ({ address, kind: LOAD_BALANCER, ours: servesBalanced })),
		...service.externalIPs
			.filter(() => servesExternal || !proxyAll || (!isOurs && externalIPs))
			.map((address) => ({ address, kind: EXTERNAL_IP, ours: servesExternal })),
	];
	const problems: string[] = [];
	const ports = isOurs
		? families.flatMap((family) => portsOf(service, family, config, problems))
		: [];
	const claims: Claim[] = [];
	for (const { address, kind, ours } of addresses) {
		const family = familyOf(address);
		if (ours && !families.includes(family)) continue;
		const frontends = new Map<string, number>();
		if (ours)
			for (const [index, { family: own, protocol, port }] of ports.entries())
				if (own === family) frontends.set(frontendKeyOf(address, protocol, port), index);
		claims.push({ place: address, kind, isOthers: !ours, frontends });
	}
	for (const [index, { family, protocol, nodePort }] of ports.entries()) {
		if (nodePort === 0) continue;
		const place = frontendKeyOf(NODE_PORT_ADDRESS[family], protocol, nodePort);
		claims.push({
			...{ place, kind: NODE_PORT, isOthers: false },
			frontends: new Map([[place, index]]),
		});
	}
	return { claims: distinct(claims), ports, problems };
}

function portsOf(
	service: ServiceObject,
	family: 4 | 6,
	{ fairwayProxy, snat }: Pick<Config, "fairwayProxy" | "snat">,
	problems: string[],
): PortSpec[] {
	const { namespace, name } = service;
	const ranges = service.sourceRanges.filter((range) => familyOf(range) === family);
	const flags =
		(service.internalLocal ? ServiceFlag.INTERNAL_LOCAL : 0) |
		(service.externalLocal ? ServiceFlag.EXTERNAL_LOCAL : 0) |
		(ranges.length > 0 ? ServiceFlag.RANGES : 0);
	return service.ports.map(({ name: portName, protocol, port, nodePort }) => {
		// An answer to a translated connection of a Pod would look like a new connection to the Service.
		const isTaken = isIn(snat.portRange, nodePort);
		// No Service may claim a port of the Node itself, such as its ssh server's.
		const isOutside = nodePort !== 0 && !isIn(fairwayProxy.nodePortRange, nodePort);
		if (fairwayProxy.proxyAll && (isTaken || isOutside)) {
			const wanted = isTaken
				? `outside snat.portRange, ${rangeText(snat.portRange)}`
				: `of fairwayProxy.nodePortRange, ${rangeText(fairwayProxy.nodePortRange)}`;
			const what = `NodePort ${nodePort} of Service ${namespace}/${name}`;
			problems.push(`Cannot serve ${what}: expected a port ${wanted}`);
		}
		return {
			id: `${namespace}/${name} ${portName} ${protocol} ${family}`,
			name: portName,
			family,
			protocol,
			port,
			nodePort: fairwayProxy.proxyAll && !isTaken && !isOutside ? nodePort : 0,
			affinity: service.affinitySeconds,
			flags,
			ranges: ranges.length === 0 ? NO_TEXTS : ranges,
		};
	});
}

function isIn({ first, last }: PortRange, port: number): boolean {
	return port >= first && port <= last;
}

function rangeText({ first, last }: PortRange): string {
	return `${first}-${last}`;
}

/** Where a Service claims an address twice (an external IP that is its cluster IP), the first kind counts. */
function distinct(claims: readonly Claim[]): Claim[] {
	const places = new Map<string, Claim>();
	for (const claim of claims) if (!places.has(claim.place)) places.set(claim.place, claim);
	return [...places.values()];
}
