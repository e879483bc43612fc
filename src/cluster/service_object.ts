/**
 * Reads a Service as it is after the API's defaulting. One of another proxy's, a headless one or an
 * ExternalName is read all the same: which of them are served is decided where they are compiled.
 */
import { canonicalAddress, familyOf, parseAddress } from "../tables/address.js";
import { makePrefix, readPrefix } from "../tables/prefix.js";
import {
	createdOf,
	Fault,
	listOf,
	type Mapping,
	mapping,
	nameOf,
	namespacedNameOf,
	readAddress,
	refuseLinkLocal,
	show,
	uidOf,
} from "./fields.js";
import { intern, type Labels, labelOf, readLabels } from "./labels.js";
import {
	readOptionalPort,
	readServicePorts,
	type ServicePort,
	section,
	shareServicePorts,
} from "./service_ports.js";
import { NO_TEXTS } from "./shared.js";

export type { ServicePort } from "./service_ports.js";

export interface ServiceObject {
	namespace: string;
	name: string;
	uid?: string;
	/** metadata.creationTimestamp, ms since the epoch; absent where it says nothing. */
	created?: number;
	type: ServiceType;
	/** Canonical, at most one of a family; none: headless or ExternalName. */
	clusterIPs: readonly string[];
	/** Canonical. */
	externalIPs: readonly string[];
	/** Canonical. Those that each Node serves, not those of a proxying load balancer. */
	loadBalancerIPs: readonly string[];
	/** Canonical CIDRs of both families: the sources that may use the load balancer IPs; empty: all. */
	sourceRanges: readonly string[];
	ports: readonly ServicePort[];
	/** Seconds since the last new connection; 0: no affinity. */
	affinitySeconds: number;
	internalLocal: boolean;
	externalLocal: boolean;
	/** 0: none. */
	healthCheckNodePort: number;
	/** Value of the label `service.kubernetes.io/service-proxy-name`. */
	proxyName: string | undefined;
	/** It has the label `service.kubernetes.io/headless`. */
	isHeadlessLabelled: boolean;
	/** Empty: none, its endpoints are made by another controller or by hand. */
	selector: Labels;
	publishNotReadyAddresses: boolean;
	/** For the directory's endpoints; absent: none, or one that is not known. */
	trafficDistribution?: Distribution;
}

type Distribution = "PreferSameZone" | "PreferSameNode";
export type ServiceType = "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";

const PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name";
const HEADLESS_LABEL = "service.kubernetes.io/headless";

const TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] as const;
const POLICIES = ["Cluster", "Local"] as const;
const AFFINITIES = ["None", "ClientIP"] as const;
/** PreferClose is the older name. */
const DISTRIBUTIONS: ReadonlyMap<unknown, Distribution> = new Map([
	["PreferClose", "PreferSameZone"],
	["PreferSameZone", "PreferSameZone"],
	["PreferSameNode", "PreferSameNode"],
]);
const AFFINITY_SECONDS = { least: 1, most: 86_400, default: 10_800 };

/** @throws Fault */
export function readService(object: Mapping): ServiceObject {
	const spec = section(object.spec, "spec");
	const type = oneOf(spec.type, TYPES, "ClusterIP", "spec.type");
	const isBalanced = type === "LoadBalancer";
	// What is left of another type that it had: the API takes these away.
	const hasNodePorts = type === "NodePort" || isBalanced;
	const labels = readLabels(mapping(object.metadata).labels);
	const [namespace = ""] = namespacedNameOf(object).split("/");
	const uid = uidOf(object);
	const created = createdOf(object);
	const external = listOf(spec.externalIPs, "spec.externalIPs").map((value, i) =>
		refuseLinkLocal(readAddress(value, `spec.externalIPs[${i}]`), `spec.externalIPs[${i}]`),
	);
	const balanced = readIngress(object);
	const externalLocal = oneOf(
		...([spec.externalTrafficPolicy, POLICIES, "Cluster", "spec.externalTrafficPolicy"] as const),
	);
	const internalLocal = oneOf(
		...([spec.internalTrafficPolicy, POLICIES, "Cluster", "spec.internalTrafficPolicy"] as const),
	);
	const healthCheckNodePort = readOptionalPort(
		spec.healthCheckNodePort,
		"spec.healthCheckNodePort",
	);
	const clusterIPs = readClusterIps(spec);
	const isLocal = externalLocal === "Local";
	const trafficDistribution = DISTRIBUTIONS.get(spec.trafficDistribution);
	return {
		namespace: intern(namespace),
		name: nameOf(object),
		...(uid === undefined ? {} : { uid }),
		...(created === undefined ? {} : { created }),
		type,
		clusterIPs: type === "ExternalName" ? NO_TEXTS : clusterIPs,
		externalIPs: orNone(external),
		loadBalancerIPs: isBalanced ? orNone(balanced) : NO_TEXTS,
		sourceRanges: orNone(readSourceRanges(spec)),
		ports: readServicePorts(spec.ports, hasNodePorts),
		affinitySeconds: readAffinity(spec),
		internalLocal: internalLocal === "Local",
		externalLocal: isLocal,
		healthCheckNodePort: isBalanced && isLocal ? healthCheckNodePort : 0,
		proxyName: labelOf(labels, PROXY_NAME_LABEL),
		isHeadlessLabelled: labelOf(labels, HEADLESS_LABEL) !== undefined,
		selector: type === "ExternalName" ? [] : readLabels(section(spec.selector, "spec.selector")),
		publishNotReadyAddresses: spec.publishNotReadyAddresses === true,
		...(trafficDistribution === undefined ? {} : { trafficDistribution }),
	};
}

/** One that was not read from an object, with what records have in common shared. */
export function shareService(service: ServiceObject): ServiceObject {
	const { uid, created, trafficDistribution } = service;
	// Written out, see `withTarget` of endpoint_slice_object.ts.
	const shared: ServiceObject = {
		namespace: intern(service.namespace),
		name: service.name,
		type: service.type,
		clusterIPs: orNone(service.clusterIPs),
		externalIPs: orNone(service.externalIPs),
		loadBalancerIPs: orNone(service.loadBalancerIPs),
		sourceRanges: orNone(service.sourceRanges),
		ports: shareServicePorts(service.ports),
		affinitySeconds: service.affinitySeconds,
		internalLocal: service.internalLocal,
		externalLocal: service.externalLocal,
		healthCheckNodePort: service.healthCheckNodePort,
		// JSON has no undefined.
		proxyName: service.proxyName,
		isHeadlessLabelled: service.isHeadlessLabelled,
		selector: service.selector.map(intern),
		publishNotReadyAddresses: service.publishNotReadyAddresses,
	};
	if (uid !== undefined) shared.uid = uid;
	if (created !== undefined) shared.created = created;
	if (trafficDistribution !== undefined) shared.trafficDistribution = trafficDistribution;
	return shared;
}

/** "namespace/name" */
export function keyOfService({ namespace, name }: Pick<ServiceObject, "namespace" | "name">) {
	return `${namespace}/${name}`;
}

/** `clusterIP` is the first of `clusterIPs`; either may be left out. */
function readClusterIps(spec: Mapping): readonly string[] {
	const one = spec.clusterIP;
	const list = listOf(spec.clusterIPs, "spec.clusterIPs");
	if (list.length === 0 && one !== undefined && one !== null && one !== "") list.push(one);
	if (list.length === 0 || list[0] === "None" || list[0] === "") return NO_TEXTS;
	const addresses = list.map((value, i) => readAddress(value, `spec.clusterIPs[${i}]`));
	if (typeof one === "string" && one !== "" && canonicalAddress(one) !== addresses[0])
		throw new Fault(`expected spec.clusterIP as spec.clusterIPs[0], got ${show(list[0])}`);
	if (new Set(addresses.map(familyOf)).size < addresses.length)
		throw new Fault(`expected at most one of a family as spec.clusterIPs, got ${addresses}`);
	return addresses;
}

function readIngress(object: Mapping): string[] {
	const { ingress } = mapping(mapping(object.status).loadBalancer);
	return listOf(ingress, "status.loadBalancer.ingress").flatMap((item, i) => {
		const { ip, ipMode } = mapping(item);
		// One with a hostname has no address.
		if (ip === undefined || ip === null || ip === "" || ipMode === "Proxy") return [];
		return [readAddress(ip, `status.loadBalancer.ingress[${i}].ip`)];
	});
}

/** Blanks around them and host bits are accepted, as in the API. */
function readSourceRanges(spec: Mapping): string[] {
	const ranges = listOf(spec.loadBalancerSourceRanges, "spec.loadBalancerSourceRanges");
	return ranges.map((value, i) => {
		const text = typeof value === "string" ? value.trim() : "";
		const read = readPrefix(text);
		if ("prefix" in read) return read.prefix.text;
		const [, address = "", length = ""] = /^(.*)\/(\d{1,3})$/.exec(text) ?? [];
		const bytes = parseAddress(address);
		const bits = familyOf(address) === 4 ? 32 : 128;
		if (bytes !== undefined && Number(length) <= bits)
			return makePrefix(bytes, Number(length)).text;
		throw new Fault(
			`expected ${read.wanted} as spec.loadBalancerSourceRanges[${i}], got ${show(value)}`,
		);
	});
}

function readAffinity(spec: Mapping): number {
	if (oneOf(spec.sessionAffinity, AFFINITIES, "None", "spec.sessionAffinity") === "None") return 0;
	const { timeoutSeconds } = mapping(mapping(spec.sessionAffinityConfig).clientIP);
	if (timeoutSeconds === undefined || timeoutSeconds === null) return AFFINITY_SECONDS.default;
	const { least, most } = AFFINITY_SECONDS;
	if (Number.isInteger(timeoutSeconds)) {
		const seconds = Number(timeoutSeconds);
		if (seconds >= least && seconds <= most) return seconds;
	}
	throw new Fault(
		`expected ${least} to ${most} as spec.sessionAffinityConfig.clientIP.timeoutSeconds, got ${show(timeoutSeconds)}`,
	);
}

function oneOf<const T extends string>(
	value: unknown,
	names: readonly T[],
	otherwise: T,
	where: string,
): T {
	if (value === undefined || value === null || value === "") return otherwise;
	const known = names.find((name) => name === value);
	if (known !== undefined) return known;
	throw new Fault(`expected one of ${names.join(", ")} as ${where}, got ${show(value)}`);
}

function orNone(texts: readonly string[]): readonly string[] {
	return texts.length === 0 ? NO_TEXTS : texts;
}
