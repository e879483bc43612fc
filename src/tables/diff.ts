/**
 * Computes the ordered writes that turn one Tables into another. Pure; `diff(x, x)` is empty.
 *
 *  1. gateway        the device that routes and Pods rely on
 *  2. puts           peers, then the addresses and routes that refer to them
 *  3. removals       in reverse: references before their targets
 *  4. wire           packets arrive only when the tables are complete
 *  5. nodeConfig     last: it marks the rest as complete
 */
import { isDeepStrictEqual } from "node:util";
import type { Tables } from "./tables.js";

/** The fields of Tables that are maps, in the order of their puts. */
export const MAPS = [
	"peerPaths",
	"peers",
	"peerAddresses",
	"peerGateways",
	"sourceAddresses",
	"endpoints",
	"routes",
	"hostRoutes",
] as const;
export type MapName = (typeof MAPS)[number];

export type KeyOf<T extends MapName> = Tables[T] extends Map<infer K, unknown> ? K : never;
export type ValueOf<T extends MapName> = Tables[T] extends Map<never, infer V> ? V : never;

export interface PutStep<T extends MapName> {
	op: "put";
	table: T;
	/** Entries that are new or have changed. */
	entries: [KeyOf<T>, ValueOf<T>][];
}

export interface RemoveStep<T extends MapName> {
	op: "remove";
	table: T;
	keys: KeyOf<T>[];
}

export type Gateway = { addresses: string[]; mac: string };
export type Wire = Pick<Tables, "xdp" | "tunnelPort" | "stackSnat"> & {
	interfaces: string[];
	links: string[];
};

export type Step =
	| { [T in MapName]: PutStep<T> | RemoveStep<T> }[MapName]
	| { op: "put"; table: "gateway"; value: Gateway }
	| { op: "put"; table: "wire"; value: Wire }
	| { op: "put"; table: "nodeConfig"; value: Tables["nodeConfig"] };

export interface MapDifference<K, V> {
	put: [K, V][];
	remove: K[];
}

/** `actual` undefined: nothing is known to exist. No step is empty. */
export function diff(actual: Tables | undefined, wanted: Tables): Step[] {
	const steps: Step[] = [];
	const removals: Step[] = [];
	const value = <T>(before: T | undefined, after: T, step: (value: T) => Step) => {
		if (!isDeepStrictEqual(before, after)) steps.push(step(after));
	};
	const map = <T extends MapName>(table: T) => {
		const before = (actual?.[table] ?? new Map()) as Map<KeyOf<T>, ValueOf<T>>;
		const { put, remove } = diffMap(before, wanted[table] as Map<KeyOf<T>, ValueOf<T>>);
		if (put.length > 0) steps.push({ op: "put", table, entries: put } as unknown as Step);
		if (remove.length > 0)
			removals.unshift({ op: "remove", table, keys: remove } as unknown as Step);
	};

	value(actual && gatewayOf(actual), gatewayOf(wanted), (value) => ({
		op: "put",
		table: "gateway",
		value,
	}));
	for (const table of MAPS) map(table);
	steps.push(...removals);
	value(actual && wireOf(actual), wireOf(wanted), (value) => ({ op: "put", table: "wire", value }));
	value(actual?.nodeConfig, wanted.nodeConfig, (value) => ({
		op: "put",
		table: "nodeConfig",
		value,
	}));
	return steps;
}

/** Compares values by content. */
export function diffMap<K, V>(
	actual: ReadonlyMap<K, V>,
	wanted: ReadonlyMap<K, V>,
): MapDifference<K, V> {
	const put: [K, V][] = [];
	const remove: K[] = [];
	for (const [key, value] of wanted)
		if (!actual.has(key) || !sameValue(actual.get(key), value)) put.push([key, value]);
	for (const key of actual.keys()) if (!wanted.has(key)) remove.push(key);
	return { put, remove };
}

/** The tables after the steps. */
export function applySteps(tables: Tables, steps: readonly Step[]): Tables {
	const after: Tables = { ...tables };
	for (const name of MAPS) after[name] = new Map<never, never>(tables[name] as never) as never;
	for (const step of steps) {
		if (step.op === "remove") for (const key of step.keys) after[step.table].delete(key as never);
		else if (step.table === "gateway") {
			after.gatewayAddresses = step.value.addresses;
			after.gatewayMac = step.value.mac;
		} else if (step.table === "wire") {
			after.wireInterfaces = step.value.interfaces;
			after.linkInterfaces = step.value.links;
			after.stackSnat = step.value.stackSnat;
			after.xdp = step.value.xdp;
			after.tunnelPort = step.value.tunnelPort;
		} else if (step.table === "nodeConfig") after.nodeConfig = step.value;
		else
			for (const [key, value] of step.entries) after[step.table].set(key as never, value as never);
	}
	return after;
}

function gatewayOf(tables: Tables): Gateway {
	return { addresses: tables.gatewayAddresses, mac: tables.gatewayMac };
}

function wireOf({
	wireInterfaces: interfaces,
	linkInterfaces: links,
	stackSnat,
	xdp,
	tunnelPort,
}: Tables): Wire {
	return { interfaces, links, stackSnat, xdp, tunnelPort };
}

/** Fast for the usual case: flat objects of numbers and text that are equal. */
export function sameValue(a: unknown, b: unknown): boolean {
	if (a === b) return true;
	if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
	const left = a as Record<string, unknown>;
	const right = b as Record<string, unknown>;
	const keys = Object.keys(left);
	if (keys.length !== Object.keys(right).length) return false;
	for (const key of keys) {
		const [x, y] = [left[key], right[key]];
		if (x !== y && !(typeof x === "object" && isDeepStrictEqual(x, y))) return false;
		if (x === undefined && !(key in right)) return false;
	}
	return true;
}
