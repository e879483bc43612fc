/**
 * Reads a NetworkPolicy (networking.k8s.io/v1): what it means after the API server's defaulting.
 *
 * One that cannot be used says so by name. Where nothing else is in force of it, `closeNetworkPolicy` stands
 * in for it: the Pods that it may select stay closed in the directions that it may mean.
 */
import { contains } from "../tables/prefix.js";
import {
	createdOf,
	Fault,
	listOf,
	type Mapping,
	mapping,
	nameOf,
	namespacedNameOf,
	show,
	uidOf,
} from "./fields.js";
import { intern } from "./labels.js";
import {
	isAudited,
	type PolicyPort,
	PROTOCOLS,
	readBlock,
	readPortName,
	readPortNumber,
} from "./policy_fields.js";
import { EVERYTHING, objectOf, readSelector, type Selector } from "./selector.js";

export interface NetworkPolicyObject {
	namespace: string;
	name: string;
	uid?: string;
	created?: number;
	pods: Selector;
	/** Undefined: it does not isolate in this direction. Empty: it allows nothing. */
	ingress: readonly NetworkPolicyRule[] | undefined;
	egress: readonly NetworkPolicyRule[] | undefined;
	/** It is staged: not enforced, only counted. */
	audit: boolean;
	/** Why it cannot be used; what it selects is closed where `ingress` and `egress` are defined. */
	unusable?: string;
}

export interface NetworkPolicyRule {
	/** Undefined: everything, the outside included. */
	peers: readonly NetworkPolicyPeer[] | undefined;
	/** Undefined: every port and every protocol. */
	ports: readonly PolicyPort[] | undefined;
}

export type NetworkPolicyPeer =
	/** Pods of the policy's own namespace, where `namespaces` is undefined. */
	| { namespaces: Selector | undefined; pods: Selector }
	/** A prefix less others, as a set; canonical text. */
	| { block: string; except: readonly string[] };

/** @throws Fault */
export function readNetworkPolicy(object: Mapping): NetworkPolicyObject {
	const spec = objectOf(object.spec, "spec");
	const ingress = listOf(spec.ingress, "spec.ingress");
	const egress = listOf(spec.egress, "spec.egress");
	const types = readTypes(spec, egress.length > 0);
	const created = createdOf(object);
	return {
		...identityOf(object),
		...(created === undefined ? {} : { created }),
		pods: readSelector(spec.podSelector, "spec.podSelector"),
		ingress: types.has("Ingress") ? readRules(ingress, "ingress", "from") : undefined,
		egress: types.has("Egress") ? readRules(egress, "egress", "to") : undefined,
		audit: isAudited(mapping(object.metadata)),
	};
}

/** Stands in for one that cannot be used: as much as can be read of what it selects, else everything. */
export function closeNetworkPolicy(object: Mapping, why: string): NetworkPolicyObject {
	const spec = mapping(object.spec);
	const pods = orElse(() => readSelector(spec.podSelector, "spec.podSelector"), EVERYTHING);
	const both = new Set(["Ingress", "Egress"]);
	const hasEgress = spec.egress !== undefined && spec.egress !== null;
	const types = orElse(() => readTypes(spec, hasEgress), both);
	return {
		...identityOf(object),
		pods,
		ingress: types.has("Ingress") ? [] : undefined,
		egress: types.has("Egress") ? [] : undefined,
		audit: isAudited(mapping(object.metadata)),
		unusable: why,
	};
}

function orElse<T>(read: () => T, otherwise: T): T {
	try {
		return read();
	} catch (error) {
		if (!(error instanceof Fault)) throw error;
		return otherwise;
	}
}

function identityOf(object: Mapping): Pick<NetworkPolicyObject, "namespace" | "name" | "uid"> {
	const [namespace = ""] = namespacedNameOf(object).split("/");
	const uid = uidOf(object);
	return {
		namespace: intern(namespace),
		name: nameOf(object),
		...(uid === undefined ? {} : { uid }),
	};
}

/** Absent or empty: Ingress, and Egress where there are egress rules. */
function readTypes(spec: Mapping, hasEgress: boolean): ReadonlySet<string> {
	const types = listOf(spec.policyTypes, "spec.policyTypes");
	for (const [i, type] of types.entries())
		if (type !== "Ingress" && type !== "Egress")
			throw new Fault(`expected Ingress or Egress as spec.policyTypes[${i}], got ${show(type)}`);
	if (types.length > 0) return new Set(types as string[]);
	return new Set(hasEgress ? ["Ingress", "Egress"] : ["Ingress"]);
}

function readRules(list: unknown[], direction: string, peers: "from" | "to"): NetworkPolicyRule[] {
	return list.map((item, i) => {
		const where = `spec.${direction}[${i}]`;
		const rule = objectOf(item, where);
		const listed = listOf(rule[peers], `${where}.${peers}`);
		const ports = listOf(rule.ports, `${where}.ports`);
		return {
			peers:
				listed.length === 0
					? undefined
					: listed.map((peer, j) => readPeer(peer, `${where}.${peers}[${j}]`)),
			ports:
				ports.length === 0
					? undefined
					: ports.map((port, j) => readPort(port, `${where}.ports[${j}]`)),
		};
	});
}

function readPeer(item: unknown, where: string): NetworkPolicyPeer {
	const { podSelector, namespaceSelector, ipBlock } = objectOf(item, where);
	const isSet = (value: unknown) => value !== undefined && value !== null;
	if (isSet(ipBlock)) {
		if (isSet(podSelector) || isSet(namespaceSelector))
			throw new Fault(`expected either an ipBlock or selectors as ${where}, got both`);
		const { cidr, except } = objectOf(ipBlock, `${where}.ipBlock`);
		const block = readBlock(cidr, `${where}.ipBlock.cidr`);
		const parts = listOf(except, `${where}.ipBlock.except`).map((value, i) => {
			const part = readBlock(value, `${where}.ipBlock.except[${i}]`);
			if (contains(block, part) && part.length > block.length) return part.text;
			throw new Fault(
				`expected a part of ${block.text} as ${where}.ipBlock.except[${i}], got ${part.text}`,
			);
		});
		return { block: intern(block.text), except: [...new Set(parts)].sort() };
	}
	if (!isSet(podSelector) && !isSet(namespaceSelector))
		throw new Fault(`expected podSelector, namespaceSelector or ipBlock as ${where}, got none`);
	return {
		namespaces: isSet(namespaceSelector)
			? readSelector(namespaceSelector, `${where}.namespaceSelector`)
			: undefined,
		pods: readSelector(podSelector, `${where}.podSelector`),
	};
}

function readPort(item: unknown, where: string): PolicyPort {
	const { protocol: named, port, endPort } = objectOf(item, where);
	// Only where the item omits it: another one is never TCP.
	const text = named === undefined || named === null ? "TCP" : named;
	const protocol = typeof text === "string" ? PROTOCOLS.get(text) : undefined;
	if (protocol === undefined)
		throw new Fault(`expected TCP, UDP or SCTP as ${where}.protocol, got ${show(named)}`);
	const hasEnd = endPort !== undefined && endPort !== null;
	if (port === undefined || port === null) {
		if (hasEnd) throw new Fault(`expected a port beside ${where}.endPort, got none`);
		return { protocol, first: 0, last: 65535 };
	}
	if (typeof port === "string") {
		const name = readPortName(port, `${where}.port`);
		if (hasEnd)
			throw new Fault(`expected a numeric port beside ${where}.endPort, got ${show(port)}`);
		return { protocol, name: intern(name) };
	}
	const first = readPortNumber(port, `${where}.port`);
	const last = hasEnd ? readPortNumber(endPort, `${where}.endPort`) : first;
	if (last < first)
		throw new Fault(`expected at least ${first} as ${where}.endPort, got ${show(endPort)}`);
	return { protocol, first, last };
}
