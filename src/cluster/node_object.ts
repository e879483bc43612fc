/** Reads a Kubernetes Node object into a NodeObject, or says what is wrong with it. */
import { formatAddress, parseAddress } from "../tables/address.js";
import {
	containsAddress,
	overlap,
	type Prefix,
	parsePrefix,
	readPrefix,
} from "../tables/prefix.js";
import type { NodeObject } from "./snapshot.js";

export const TRANSPORT_ANNOTATION = "node.fairway.io/transport-addresses";

/** A Node: usable; invalid (its last valid content stays); or valid, but without pod CIDRs (yet). */
export type NodeReading =
	| { node: NodeObject }
	/** name "": not even the name is readable. */
	| { name: string; fault: string }
	| { name: string; skipped: string };

/** RFC 1123, as required by the Kubernetes API. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

class Fault extends Error {}

/** `object` is untrusted. */
export function readNode(object: Record<string, unknown>): NodeReading {
	const metadata = mapping(object.metadata);
	const name = typeof metadata.name === "string" && NAME.test(metadata.name) ? metadata.name : "";
	try {
		if (name === "")
			throw new Fault(`expected a DNS name as metadata.name, got ${show(metadata.name)}`);
		const podCIDRs = readPodCidrs(mapping(object.spec));
		if (podCIDRs.length === 0) return { name, skipped: "it has no pod CIDRs" };
		const internalIPs = readInternalIps(mapping(object.status));
		const annotated = readAnnotation(mapping(metadata.annotations)[TRANSPORT_ANNOTATION]);
		const transportAddresses = annotated.length > 0 ? annotated : internalIPs;
		const texts = podCIDRs.map(({ text }) => text);
		const node: NodeObject = { name, podCIDRs: texts, internalIPs, transportAddresses };
		const created = readTime(metadata.creationTimestamp);
		if (created !== undefined) node.created = created;
		if (typeof metadata.uid === "string") node.uid = metadata.uid;
		parsed.set(node, podCIDRs);
		return { node };
	} catch (error) {
		if (error instanceof Fault) return { name, fault: error.message };
		throw error;
	}
}

function readTime(value: unknown): number | undefined {
	// What kubectl prints for an object that was never created.
	if (value === undefined || value === null) return undefined;
	const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
	if (Number.isNaN(time))
		throw new Fault(`expected a time as metadata.creationTimestamp, got ${show(value)}`);
	return time;
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

function readPodCidrs(spec: Record<string, unknown>): Prefix[] {
	const one = spec.podCIDR ?? undefined;
	const list = spec.podCIDRs ?? undefined;
	if (list !== undefined && !Array.isArray(list))
		throw new Fault(`expected a list as spec.podCIDRs, got ${show(list)}`);
	const many = (list ?? []).map((value, i) => readPodCidr(value, `spec.podCIDRs[${i}]`));
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

function readInternalIps(status: Record<string, unknown>): string[] {
	const list = status.addresses ?? [];
	if (!Array.isArray(list))
		throw new Fault(`expected a list as status.addresses, got ${show(list)}`);
	const found = list.flatMap((item, i) => {
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

function readAddress(value: unknown, where: string): string {
	const bytes = typeof value === "string" ? parseAddress(value) : undefined;
	if (bytes === undefined)
		throw new Fault(`expected an IPv4 or IPv6 address as ${where}, got ${show(value)}`);
	const address = formatAddress(bytes);
	const taken = NOT_FOR_NODES.find((prefix) => containsAddress(prefix, bytes));
	if (taken === undefined) return address;
	throw new Fault(
		`expected a unicast address as ${where}, got ${address}, which is in ${taken.text}`,
	);
}

const NOT_FOR_NODES = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8"].map(
	parsePrefix,
);

/** The value if it is a mapping, otherwise an empty one. */
function mapping(value: unknown): Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value)
		? (value as Record<string, unknown>)
		: {};
}

function show(value: unknown): string {
	if (value === undefined || value === null) return "nothing";
	if (typeof value === "object") return Array.isArray(value) ? "a list" : "a mapping";
	const text = typeof value === "string" ? JSON.stringify(value) : String(value);
	return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
