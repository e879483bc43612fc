/** Reads a Kubernetes Node object into a NodeObject, or says what is wrong with it. */
import { isDeepStrictEqual } from "node:util";
import { canonicalAddress } from "../tables/address.js";
import { overlap, type Prefix, parsePrefix, readPrefix } from "../tables/prefix.js";
import {
	createdOf,
	Fault,
	listOf,
	type Mapping,
	mapping,
	nameOf,
	readAddress,
	show,
	uidOf,
} from "./fields.js";
import { intern, readLabels } from "./labels.js";
import type { NodeObject } from "./snapshot.js";

const TRANSPORT_ANNOTATION = "fairway.dev/transport-addresses";
/** The cluster autoscaler sets it before it removes a Node. */
const LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler";

/** A Node, or why it is of no use (yet). @throws Fault */
export function readNode(object: Mapping): NodeObject | string {
	const metadata = mapping(object.metadata);
	const podCIDRs = readPodCidrs(mapping(object.spec));
	if (podCIDRs.length === 0) return "it has no pod CIDRs";
	const internalIPs = readInternalIps(mapping(object.status));
	const externalIPs = readExternalIps(mapping(object.status));
	const annotated = readAnnotation(mapping(metadata.annotations)[TRANSPORT_ANNOTATION]);
	const transportAddresses = annotated.length > 0 ? annotated : internalIPs;
	const texts = podCIDRs.map(({ text }) => text);
	const labels = readLabels(metadata.labels);
	const created = createdOf(object);
	const uid = uidOf(object);
	const node: NodeObject = {
		...{ name: nameOf(object), podCIDRs: texts, internalIPs, transportAddresses },
		...(externalIPs.length === 0 ? {} : { externalIPs }),
		...(labels.length === 0 ? {} : { labels }),
		...(created === undefined ? {} : { created }),
		...(uid === undefined ? {} : { uid }),
		...(isLeaving(object) ? { isLeaving: true as const } : {}),
	};
	parsed.set(node, podCIDRs);
	return node;
}

/** One that was not read from an object, with what records have in common shared. Changes the record itself. */
export function shareNode(node: NodeObject): NodeObject {
	const { internalIPs, transportAddresses, labels } = node;
	node.name = intern(node.name);
	// Both are mostly the same, and are one array where they were read.
	if (isDeepStrictEqual(internalIPs, transportAddresses)) node.transportAddresses = internalIPs;
	if (labels !== undefined) node.labels = labels.map(intern);
	return node;
}

function isLeaving({ metadata, spec }: Mapping): boolean {
	const deleted = mapping(metadata).deletionTimestamp ?? undefined;
	if (deleted !== undefined) return true;
	const taints = listOf(mapping(spec).taints, "spec.taints");
	return taints.some((taint) => mapping(taint).key === LEAVING_TAINT);
}

/** Objects of the cluster are replaced, never changed. */
const parsed = new WeakMap<NodeObject, readonly Prefix[]>();

/** The pod CIDRs of a Node in order; parsed once. */
export function podPrefixes(node: NodeObject): readonly Prefix[] {
	let prefixes = parsed.get(node);
	if (prefixes === undefined) {
		prefixes = node.podCIDRs.map(parsePrefix);
		parsed.set(node, prefixes);
	}
	return prefixes;
}

function readPodCidrs(spec: Mapping): Prefix[] {
	const one = spec.podCIDR ?? undefined;
	const list = listOf(spec.podCIDRs, "spec.podCIDRs");
	const many = list.map((value, i) => readPodCidr(value, `spec.podCIDRs[${i}]`));
	// In the API, an empty podCIDR means none.
	if (one !== undefined && one !== "") {
		const { text } = readPodCidr(one, "spec.podCIDR");
		if (many.length > 0 && !many.some((prefix) => prefix.text === text))
			throw new Fault(`expected spec.podCIDR among spec.podCIDRs, got ${text}`);
		if (many.length === 0) many.push(parsePrefix(text));
	}
	const distinct = [...new Map(many.map((prefix) => [prefix.text, prefix])).values()];
	for (const [i, a] of distinct.entries())
		for (const b of distinct.slice(i + 1))
			if (overlap(a, b))
				throw new Fault(`expected pod CIDRs that do not overlap, got ${a.text} and ${b.text}`);
	return distinct;
}

/** Ranges that cannot be pod CIDRs: loopback, link-local, multicast. */
const NOT_FOR_PODS = [
	"0.0.0.0/8",
	"127.0.0.0/8",
	"169.254.0.0/16",
	"224.0.0.0/3",
	"::/8",
	"fe80::/10",
	"ff00::/8",
].map(parsePrefix);

function readPodCidr(value: unknown, where: string): Prefix {
	if (typeof value !== "string") throw new Fault(`expected a CIDR as ${where}, got ${show(value)}`);
	const read = readPrefix(value);
	if (!("prefix" in read))
		throw new Fault(`expected ${read.wanted} as ${where}, got ${show(value)}`);
	const taken = NOT_FOR_PODS.find((prefix) => overlap(prefix, read.prefix));
	if (taken !== undefined)
		throw new Fault(
			`expected unicast addresses as ${where}, got ${value}, which overlaps ${taken.text}`,
		);
	return read.prefix;
}

/** Nothing but policies asks for them: one that cannot be read is left out. */
function readExternalIps(status: Mapping): string[] {
	const found = listOf(status.addresses, "status.addresses").flatMap((item) => {
		const { type, address } = mapping(item);
		return type === "ExternalIP" && typeof address === "string"
			? (canonicalAddress(address) ?? [])
			: [];
	});
	return [...new Set(found)];
}

function readInternalIps(status: Mapping): string[] {
	const found = listOf(status.addresses, "status.addresses").flatMap((item, i) => {
		const { type, address } = mapping(item);
		return type === "InternalIP" ? [readAddress(address, `status.addresses[${i}].address`)] : [];
	});
	return [...new Set(found)];
}

function readAnnotation(value: unknown): string[] {
	if (value === undefined || value === null) return [];
	const where = `annotation ${TRANSPORT_ANNOTATION}`;
	if (typeof value !== "string")
		throw new Fault(`expected addresses separated by commas as ${where}, got ${show(value)}`);
	const parts = value.split(",").map((part) => part.trim());
	const found = parts.filter((part) => part !== "").map((part) => readAddress(part, where));
	return [...new Set(found)];
}
