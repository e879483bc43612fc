/** What NetworkPolicy and ClusterNetworkPolicy have in common: protocols, ports, CIDRs, staging. */
import { parseAddress } from "../tables/address.js";
import { makePrefix, type Prefix, parsePrefix } from "../tables/prefix.js";
import { Fault, type Mapping, mapping, show } from "./fields.js";

/** Ports of a rule. */
export type PolicyPort =
	| {
			/** IPPROTO: TCP 6, UDP 17, SCTP 132. */
			protocol: number;
			/** Inclusive on both ends; 0 to 65535: all of the protocol. */
			first: number;
			last: number;
	  }
	| {
			/** The destination Pod's container port of that name; undefined: of any protocol. */
			protocol: number | undefined;
			name: string;
	  };

export const PROTOCOLS: ReadonlyMap<string, number> = new Map([
	["TCP", 6],
	["UDP", 17],
	["SCTP", 132],
]);

/** On a policy, or on a Namespace for its NetworkPolicies: they are not enforced, only counted. */
export const AUDIT_ANNOTATION = "fairway.dev/audit";

/** "true" stages a policy; anything else does not, so that a slip enforces. */
export function isAudited(metadata: Mapping): boolean {
	return mapping(metadata.annotations)[AUDIT_ANNOTATION] === "true";
}

/** A name of IANA's service names (RFC 6335, 5.1), as container ports have. @throws Fault */
export function readPortName(value: string, where: string): string {
	if (/^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/i.test(value)) return value;
	throw new Fault(`expected a port's number or name as ${where}, got ${show(value)}`);
}

/** @throws Fault */
export function readPortNumber(value: unknown, where: string): number {
	if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65535)
		return value;
	throw new Fault(`expected a port from 1 to 65535 as ${where}, got ${show(value)}`);
}

/** Host bits are cleared, and IPv4 may have leading zeros, as upstream takes both. @throws Fault */
export function readBlock(value: unknown, where: string): Prefix {
	const [, text, length] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(String(value)) ?? [];
	const decimal = text?.replace(/(^|\.)0+(?=\d)/g, text.includes(":") ? "$&" : "$1");
	const address = decimal === undefined ? undefined : parseAddress(decimal);
	if (typeof value === "string" && address !== undefined) {
		const bits = decimal?.includes(":") ? 128 : 32;
		if (Number(length) <= bits) return makePrefix(address, Number(length));
	}
	throw new Fault(`expected a CIDR such as 10.0.0.0/8 or fd00::/8 as ${where}, got ${show(value)}`);
}

/** Objects of the cluster are replaced, never changed. */
const parsed = new Map<string, Prefix>();
const PARSED_MAX = 50_000;

/** The prefix of canonical text; parsed once. */
export function blockOf(text: string): Prefix {
	let prefix = parsed.get(text);
	if (prefix === undefined) {
		if (parsed.size >= PARSED_MAX) parsed.clear();
		prefix = parsePrefix(text);
		parsed.set(text, prefix);
	}
	return prefix;
}
