/** Reads the fields of Kubernetes objects, which are untrusted: what they say may be anything. */
import { formatAddress, parseAddress } from "../tables/address.js";
import { containsAddress, type Prefix, parsePrefix } from "../tables/prefix.js";

/** Says what is wrong with an object: "expected ..., got ...". */
export class Fault extends Error {}

export type Mapping = Record<string, unknown>;

/** The value if it is a mapping, otherwise an empty one. */
export function mapping(value: unknown): Mapping {
	return typeof value === "object" && value !== null && !Array.isArray(value)
		? (value as Mapping)
		: {};
}

/** Absent and null mean an empty list. @throws Fault */
export function listOf(value: unknown, where: string): unknown[] {
	if (value === undefined || value === null) return [];
	if (Array.isArray(value)) return value;
	throw new Fault(`expected a list as ${where}, got ${show(value)}`);
}

/** RFC 1123, as required by the Kubernetes API. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

export function isName(value: unknown): value is string {
	return typeof value === "string" && NAME.test(value);
}

/** An object's name, for messages too; "": it has none that can be used. */
export function nameOf(object: Mapping): string {
	const { name } = mapping(object.metadata);
	return isName(name) ? name : "";
}

/** "namespace/name"; "": there is none. Without a namespace, it is `default`, as for kubectl. */
export function namespacedNameOf(object: Mapping): string {
	const { namespace } = mapping(object.metadata);
	const name = nameOf(object);
	const space = namespace === undefined || namespace === null ? "default" : namespace;
	// In one piece: keys stay by the thousand, and a template would keep its parts beside it.
	return name === "" || !isName(space) ? "" : [space, name].join("/");
}

export function uidOf(object: Mapping): string | undefined {
	const { uid } = mapping(object.metadata);
	return typeof uid === "string" && uid !== "" ? uid : undefined;
}

/** metadata.creationTimestamp in ms since the epoch. @throws Fault */
export function createdOf(object: Mapping): number | undefined {
	const value = mapping(object.metadata).creationTimestamp;
	// What kubectl prints for an object that was never created.
	if (value === undefined || value === null) return undefined;
	const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
	if (Number.isNaN(time))
		throw new Fault(`expected a time as metadata.creationTimestamp, got ${show(value)}`);
	return time;
}

/** Ranges in which no host has its address: unspecified, loopback, multicast. */
const NOT_FOR_HOSTS = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8"].map(
	parsePrefix,
);

/** Canonical text of an address that a host may have. @throws Fault */
export function readAddress(value: unknown, where: string): string {
	const bytes = typeof value === "string" ? parseAddress(value) : undefined;
	if (bytes === undefined)
		throw new Fault(`expected an IPv4 or IPv6 address as ${where}, got ${show(value)}`);
	const address = formatAddress(bytes);
	const taken = NOT_FOR_HOSTS.find((prefix: Prefix) => containsAddress(prefix, bytes));
	if (taken === undefined) return address;
	throw new Fault(
		`expected a unicast address as ${where}, got ${address}, which is in ${taken.text}`,
	);
}

/** 169.254.0.0/16 and fe80::/10 are known on one link only. */
const LINK_LOCAL = ["169.254.0.0/16", "fe80::/10"].map(parsePrefix);

/** The canonical address itself, if it means the same on all Nodes. @throws Fault */
export function refuseLinkLocal(address: string, where: string): string {
	const bytes = parseAddress(address)!;
	const taken = LINK_LOCAL.find((prefix) => containsAddress(prefix, bytes));
	if (taken === undefined) return address;
	throw new Fault(
		`expected an address beyond one link as ${where}, got ${address}, which is in ${taken.text}`,
	);
}

/** A value in a message, shortened. */
export function show(value: unknown): string {
	if (value === undefined || value === null) return "nothing";
	if (typeof value === "object") return Array.isArray(value) ? "a list" : "a mapping";
	const text = typeof value === "string" ? JSON.stringify(value) : String(value);
	return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
