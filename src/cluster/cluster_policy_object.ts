/**
 * Reads a ClusterNetworkPolicy (policy.networking.k8s.io, v1alpha2 and v1beta1, which have one schema).
 *
 * A peer or a protocol that has no known field comes from a newer version of the API, and its rule fails
 * closed: Accept matches nothing, Deny and Pass deny everything (`isUnknown`). `domainNames`, which needs an
 * observer of DNS, counts as one.
 */
import { createdOf, Fault, listOf, type Mapping, mapping, nameOf, show, uidOf } from "./fields.js";
import { intern } from "./labels.js";
import {
	isAudited,
	type PolicyPort,
	readBlock,
	readPortName,
	readPortNumber,
} from "./policy_fields.js";
import { EVERYTHING, objectOf, readSelector, type Selector } from "./selector.js";

export type Action = "Accept" | "Deny" | "Pass";

export interface ClusterPolicyObject {
	name: string;
	uid?: string;
	created?: number;
	tier: "Admin" | "Baseline";
	/** 0 to 1000; lower comes first. */
	priority: number;
	/** Pods of these namespaces; those on the Node's network never. */
	subject: { namespaces: Selector; pods: Selector };
	/** In their order; empty: it says nothing about this direction. */
	ingress: readonly ClusterPolicyRule[];
	egress: readonly ClusterPolicyRule[];
	/** It is staged: not enforced, only counted. */
	audit: boolean;
	/** Why it cannot be used; its subject is closed where `ingress` and `egress` have rules. */
	unusable?: string;
}

export interface ClusterPolicyRule {
	/** "": none. */
	name: string;
	action: Action;
	peers: readonly ClusterPolicyPeer[];
	/** Undefined: every port and every protocol. */
	ports: readonly PolicyPort[] | undefined;
	/** It has a peer or a protocol that this version does not know. */
	isUnknown: boolean;
}

export type ClusterPolicyPeer =
	| { namespaces: Selector; pods: Selector }
	/** Egress only. */
	| { nodes: Selector }
	/** Egress only. Canonical. */
	| { networks: readonly string[] };

/** Rules, peers, protocols and networks. */
const MOST = 25;

/** @throws Fault */
export function readClusterPolicy(object: Mapping): ClusterPolicyObject {
	const spec = objectOf(object.spec, "spec");
	const { tier, priority } = spec;
	if (tier !== "Admin" && tier !== "Baseline")
		throw new Fault(`expected Admin or Baseline as spec.tier, got ${show(tier)}`);
	if (
		typeof priority !== "number" ||
		!Number.isInteger(priority) ||
		priority < 0 ||
		priority > 1000
	)
		throw new Fault(`expected 0 to 1000 as spec.priority, got ${show(priority)}`);
	const created = createdOf(object);
	return {
		...identityOf(object),
		...(created === undefined ? {} : { created }),
		tier,
		priority,
		subject: readSubject(spec.subject),
		ingress: readRules(spec.ingress, "ingress", "from"),
		egress: readRules(spec.egress, "egress", "to"),
		audit: isAudited(mapping(object.metadata)),
	};
}

const CLOSED: ClusterPolicyRule = {
	...{ name: "", action: "Deny", peers: [], ports: undefined, isUnknown: true },
};

/** Stands in for one that cannot be used: as much as can be read of what it selects, else everything. */
export function closeClusterPolicy(object: Mapping, why: string): ClusterPolicyObject {
	const spec = mapping(object.spec);
	let subject: ClusterPolicyObject["subject"] = { namespaces: EVERYTHING, pods: EVERYTHING };
	try {
		subject = readSubject(spec.subject);
	} catch (error) {
		if (!(error instanceof Fault)) throw error;
	}
	const says = (rules: unknown) =>
		rules === undefined || rules === null || (Array.isArray(rules) && rules.length === 0)
			? []
			: [CLOSED];
	return {
		...identityOf(object),
		...{ tier: spec.tier === "Baseline" ? "Baseline" : "Admin", priority: 0, subject },
		...{ ingress: says(spec.ingress), egress: says(spec.egress) },
		audit: isAudited(mapping(object.metadata)),
		unusable: why,
	};
}

function identityOf(object: Mapping): Pick<ClusterPolicyObject, "name" | "uid"> {
	const uid = uidOf(object);
	return { name: nameOf(object), ...(uid === undefined ? {} : { uid }) };
}

function readSubject(value: unknown): ClusterPolicyObject["subject"] {
	const subject = objectOf(value, "spec.subject");
	const peer = readPods(subject, "spec.subject");
	if (peer === undefined || fieldsOf(subject).length !== 1)
		throw new Fault(
			`expected either namespaces or pods as spec.subject, got ${fieldsOf(subject).join(" and ") || "nothing"}`,
		);
	return peer;
}

/** Undefined: it has neither `namespaces` nor `pods`. */
function readPods(
	item: Mapping,
	where: string,
): { namespaces: Selector; pods: Selector } | undefined {
	if (isSet(item.namespaces))
		return {
			namespaces: readSelector(item.namespaces, `${where}.namespaces`),
			pods: EVERYTHING,
		};
	if (!isSet(item.pods)) return undefined;
	const { namespaceSelector, podSelector } = objectOf(item.pods, `${where}.pods`);
	return {
		namespaces: readSelector(namespaceSelector, `${where}.pods.namespaceSelector`),
		pods: readSelector(podSelector, `${where}.pods.podSelector`),
	};
}

function readRules(value: unknown, direction: string, side: "from" | "to"): ClusterPolicyRule[] {
	const rules = limited(listOf(value, `spec.${direction}`), `spec.${direction}`);
	return rules.map((item, i) => {
		const where = `spec.${direction}[${i}]`;
		const rule = objectOf(item, where);
		const { name, action } = rule;
		if (action !== "Accept" && action !== "Deny" && action !== "Pass")
			throw new Fault(`expected Accept, Deny or Pass as ${where}.action, got ${show(action)}`);
		const listed = limited(listOf(rule[side], `${where}.${side}`), `${where}.${side}`);
		if (listed.length === 0)
			throw new Fault(`expected at least one peer as ${where}.${side}, got none`);
		const peers = listed.map((peer, j) => readPeer(peer, side, `${where}.${side}[${j}]`));
		const protocols = isSet(rule.protocols)
			? limited(listOf(rule.protocols, `${where}.protocols`), `${where}.protocols`)
			: undefined;
		if (protocols?.length === 0)
			throw new Fault(`expected at least one protocol as ${where}.protocols, got none`);
		const ports = protocols?.map((port, j) => readProtocol(port, `${where}.protocols[${j}]`));
		const known = <T>(list: readonly (T | undefined)[]): T[] =>
			list.filter((one): one is T & {} => one !== undefined);
		return {
			name: typeof name === "string" ? name : "",
			action,
			peers: known(peers),
			ports: ports === undefined ? undefined : known(ports),
			isUnknown: peers.includes(undefined) || ports?.includes(undefined) === true,
		};
	});
}

/** Undefined: of a kind that is not known. */
function readPeer(item: unknown, side: string, where: string): ClusterPolicyPeer | undefined {
	const peer = objectOf(item, where);
	if (fieldsOf(peer).length > 1)
		throw new Fault(`expected one kind of peer as ${where}, got ${fieldsOf(peer).join(" and ")}`);
	const pods = readPods(peer, where);
	if (pods !== undefined || side === "from") return pods;
	if (isSet(peer.nodes)) return { nodes: readSelector(peer.nodes, `${where}.nodes`) };
	if (!isSet(peer.networks)) return undefined;
	const networks = limited(listOf(peer.networks, `${where}.networks`), `${where}.networks`);
	if (networks.length === 0)
		throw new Fault(`expected at least one CIDR as ${where}.networks, got none`);
	return {
		networks: networks.map((text, i) => intern(readBlock(text, `${where}.networks[${i}]`).text)),
	};
}

/** Undefined: of a kind that is not known. */
function readProtocol(item: unknown, where: string): PolicyPort | undefined {
	const protocol = objectOf(item, where);
	const fields = fieldsOf(protocol);
	if (fields.length > 1)
		throw new Fault(`expected one protocol as ${where}, got ${fields.join(" and ")}`);
	const { destinationNamedPort: name } = protocol;
	if (isSet(name)) {
		if (typeof name !== "string")
			throw new Fault(`expected a port's name as ${where}.destinationNamedPort, got ${show(name)}`);
		const read = readPortName(name, `${where}.destinationNamedPort`);
		return { protocol: undefined, name: intern(read) };
	}
	for (const [field, number] of [["tcp", 6] as const, ["udp", 17] as const, ["sctp", 132] as const])
		if (isSet(protocol[field])) {
			const { destinationPort } = objectOf(protocol[field], `${where}.${field}`);
			return { protocol: number, ...readRange(destinationPort, `${where}.${field}`) };
		}
	return undefined;
}

function readRange(value: unknown, where: string): { first: number; last: number } {
	if (!isSet(value)) return { first: 0, last: 65535 };
	const port = objectOf(value, `${where}.destinationPort`);
	const { number, range } = port;
	if (isSet(number) === isSet(range))
		throw new Fault(`expected either a number or a range as ${where}.destinationPort`);
	if (isSet(number)) {
		const first = readPortNumber(number, `${where}.destinationPort.number`);
		return { first, last: first };
	}
	const { start, end } = objectOf(range, `${where}.destinationPort.range`);
	const first = readPortNumber(start, `${where}.destinationPort.range.start`);
	const last = readPortNumber(end, `${where}.destinationPort.range.end`);
	if (last >= first) return { first, last };
	throw new Fault(
		`expected at least ${first} as ${where}.destinationPort.range.end, got ${show(end)}`,
	);
}

function limited(list: unknown[], where: string): unknown[] {
	if (list.length <= MOST) return list;
	throw new Fault(`expected at most ${MOST} as ${where}, got ${list.length}`);
}

function isSet(value: unknown): boolean {
	return value !== undefined && value !== null;
}

function fieldsOf(item: Mapping): string[] {
	return Object.keys(item).filter((field) => isSet(item[field]));
}
