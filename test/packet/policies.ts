/**
 * The tables of network policy of the Node in world.ts, as plain values that a row's file can have. Nobody's
 * objects: classes, policies and verdicts may be anything that a map can hold.
 */
import {
	EndpointPolicy,
	type Policy,
	type PolicyVerdict,
	type PortSet,
} from "../../src/tables/generated.js";
import type { MemoryTables } from "./memory_tables.js";
import { podA, podB } from "./world.js";

export interface Policies {
	classLimit: number;
	/** Address → class. */
	identities: Record<string, number>;
	/** Prefix → class. */
	blocks: Record<string, number>;
	/** By index. */
	policies: Record<number, Policy>;
	verdicts: { policy: number; class: number; verdict: PolicyVerdict }[];
	/** By id. */
	portSets: Record<number, PortSet>;
	/** Of Pod A and Pod B. */
	endpoints: [EndpointPolicies, EndpointPolicies];
}

export interface EndpointPolicies {
	egress: number;
	ingress: number;
}

/** Nobody is judged. */
export const NO_POLICIES: Policies = {
	classLimit: 0,
	identities: {},
	blocks: {},
	policies: {},
	verdicts: [],
	portSets: {},
	endpoints: [
		{ egress: EndpointPolicy.OPEN, ingress: EndpointPolicy.OPEN },
		{ egress: EndpointPolicy.OPEN, ingress: EndpointPolicy.OPEN },
	],
};

/** In place of all that there were. */
export function writePolicies(tables: MemoryTables, policies: Policies): void {
	const { classLimit, identities, blocks, verdicts, portSets, endpoints } = policies;
	tables.limit = classLimit;
	replace(tables.identities, Object.entries(identities));
	replace(tables.blocks, Object.entries(blocks));
	replace(tables.policies, byNumber(policies.policies));
	replace(tables.portSets, byNumber(portSets));
	const keyOf = (policy: number, number: number) => policy * 2 ** 32 + number;
	replace(
		tables.policyVerdicts,
		verdicts.map((one) => [keyOf(one.policy, one.class), one.verdict]),
	);
	setPoliciesOf(tables, "A", endpoints[0]);
	setPoliciesOf(tables, "B", endpoints[1]);
}

export function setPoliciesOf(
	tables: MemoryTables,
	pod: "A" | "B",
	{ egress, ingress }: EndpointPolicies,
): void {
	const { 4: ipv4, 6: ipv6 } = pod === "A" ? podA : podB;
	for (const address of [ipv4, ipv6]) {
		const endpoint = tables.endpoints.get(address);
		if (endpoint === undefined) continue;
		const policies = { egressPolicy: egress, ingressPolicy: ingress };
		tables.endpoints.set(address, { ...endpoint, ...policies });
	}
}

function byNumber<V>(record: Record<number, V>): [number, V][] {
	return Object.entries(record).map(([number, value]) => [Number(number), value]);
}

function replace<K, V>(map: Map<K, V>, entries: readonly (readonly [K, V])[]): void {
	map.clear();
	for (const [key, value] of entries) map.set(key, value);
}
