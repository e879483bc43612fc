/**
 * What other policies would open and close, before they are applied: pairs of Pods with the ports, and how many
 * of the flows that live now are concerned. Pure.
 *
 *  1. Pods that no policy of either side tells apart are one group (sides.ts)
 *  2. groups for which a side chooses other policies: against every other group, over all ports
 *  3. live flows of which an end's policies are others are judged one by one
 *
 * Work and answer are bounded: where there is more, `isCut` says so. Flows are always counted.
 */
import type { Steps } from "../loop/turns.js";
import type { Cluster, Flow } from "./interpreter.js";
import { NO_PORTS, positionOf } from "./port_space.js";
import {
	allowsAt,
	type Choice,
	type End,
	type Group,
	type Line,
	nameOf,
	type Policies,
	Sides,
} from "./sides.js";

export interface DiffRow {
	/** "namespace/name" of a Pod, or an address. */
	from: string;
	to: string;
	/** A port, "FIRST-LAST", or null: every one of the protocol. */
	port: number | string | null;
	/** "tcp", "udp", "sctp", or "other". */
	protocol: string;
	/** Live flows. */
	flows: number;
}

export interface PolicyDiff {
	opened: DiffRow[];
	closed: DiffRow[];
	/** There are more rows than these. */
	isCut: boolean;
	/** Live flows, in rows or not. */
	flows: { opened: number; closed: number };
}

export interface DiffLimits {
	/** Rows of the answer. */
	rows: number;
	/** Pairs of groups that are looked at. */
	looks: number;
}

export const DIFF_LIMITS: DiffLimits = { rows: 10_000, looks: 5_000_000 };
const NAMES = ["tcp", "udp", "sctp", "other"];
const PORTS = 65_536;
const BEFORE = 0;
const AFTER = 1;

type Way = "opened" | "closed";

/** Two sets of policies compared on one cluster: first its Pods, then live flows as they are read. */
export class PolicyDiffer {
	readonly #sides: Sides;
	readonly #rows: Rows;
	readonly #flows = { opened: 0, closed: 0 };

	private constructor(sides: Sides, rows: Rows) {
		this.#sides = sides;
		this.#rows = rows;
	}

	static *of(
		cluster: Omit<Cluster, keyof Policies>,
		before: Policies,
		after: Policies,
		limits = DIFF_LIMITS,
	): Steps<PolicyDiffer> {
		const sides = yield* Sides.of(cluster, [before, after]);
		const rows = new Rows(limits.rows);
		yield* diffPods(sides, rows, limits.looks);
		return new PolicyDiffer(sides, rows);
	}

	/** @param flow by the addresses and the port that policies judge: after a Service's translation, before SNAT */
	count(flow: Flow): void {
		const way = wayOf(this.#sides, flow);
		if (way === undefined) return;
		this.#flows[way]++;
		const protocol = NAMES[Math.floor(positionOf(flow.protocol, 0) / PORTS)]!;
		const [from, to] = [flow.source, flow.destination].map((address) => {
			const { pod } = this.#sides.at(address);
			return pod === undefined ? address : nameOf(pod);
		}) as [string, string];
		const row = this.#rows.find(way, from, to, protocol, flow.port);
		const span = { protocol, first: flow.port, last: flow.port };
		if (row !== undefined) row.flows++;
		else this.#rows.add(way, from, to, span, 1);
	}

	result(): PolicyDiff {
		const { opened, closed, isCut } = this.#rows;
		return { opened, closed, isCut, flows: { ...this.#flows } };
	}
}

/** All of it: see PolicyDiffer. */
export function* diffPolicies(
	cluster: Omit<Cluster, keyof Policies>,
	before: Policies,
	after: Policies,
	flows: Iterable<Flow> = [],
	limits = DIFF_LIMITS,
): Steps<PolicyDiff> {
	const differ = yield* PolicyDiffer.of(cluster, before, after, limits);
	for (const flow of flows) {
		yield;
		differ.count(flow);
	}
	return differ.result();
}

/** The answer: each span of ports of a pair has one row. */
class Rows {
	readonly opened: DiffRow[] = [];
	readonly closed: DiffRow[] = [];
	readonly #most: number;
	readonly #byPair = new Map<string, DiffRow[]>();
	isCut = false;

	constructor(most: number) {
		this.#most = most;
	}

	/** Returns false where there is no room for it. */
	add(way: Way, from: string, to: string, { protocol, first, last }: Span, flows = 0): boolean {
		if (this.opened.length + this.closed.length >= this.#most) {
			this.isCut = true;
			return false;
		}
		const isAll = protocol === "other" || (first === 0 && last === PORTS - 1);
		const port = isAll ? null : first === last ? first : `${first}-${last}`;
		const row = { from, to, port, protocol, flows };
		this[way].push(row);
		const key = `${way} ${from} ${to} ${protocol}`;
		const known = this.#byPair.get(key);
		if (known === undefined) this.#byPair.set(key, [row]);
		else known.push(row);
		return true;
	}

	find(way: Way, from: string, to: string, protocol: string, port: number): DiffRow | undefined {
		return this.#byPair.get(`${way} ${from} ${to} ${protocol}`)?.find((row) => {
			if (typeof row.port !== "string") return row.port === null || row.port === port;
			const [first, last] = row.port.split("-").map(Number) as [number, number];
			return first <= port && port <= last;
		});
	}
}

interface Span {
	protocol: string;
	first: number;
	last: number;
}

// ------------------------------------------------------------ 2 Pods

function* diffPods(sides: Sides, rows: Rows, most: number): Steps<void> {
	let looks = 0;
	for (const direction of ["egress", "ingress"] as const) {
		const otherDirection = direction === "egress" ? "ingress" : "egress";
		for (const { was, is, groups } of yield* changedChoices(sides, direction))
			for (const other of sides.groups)
				for (const [family, address] of other.addresses) {
					if (++looks > most) rows.isCut = true;
					if (rows.isCut) return;
					yield;
					const end = { address, group: other, pod: other.pods[0]! };
					const [wasLine, isLine] = [sides.line(was, end), sides.line(is, end)];
					if (wasLine === isLine) continue;
					for (const group of groups) {
						const own = group.addresses.get(family);
						if (own === undefined) continue;
						const self = { address: own, group, pod: group.pods[0]! };
						const [wasOther, isOther] = [BEFORE, AFTER].map((side) =>
							sides.line(sides.choice(side, other, otherDirection), self),
						) as [Line, Line];
						const spans = spansOf([wasLine, wasOther], [isLine, isOther]);
						const [from, to] = direction === "egress" ? [group, other] : [other, group];
						if (spans.length > 0) yield* addPairs(rows, from, to, spans);
						if (rows.isCut) return;
					}
				}
	}
}

interface ChangedChoice {
	was: Choice;
	is: Choice;
	groups: Group[];
}

/** Groups for which other policies are chosen after than before, by what is chosen. */
function* changedChoices(
	sides: Sides,
	direction: "egress" | "ingress",
): Steps<Iterable<ChangedChoice>> {
	const found = new Map<string, ChangedChoice>();
	for (const group of sides.groups) {
		yield;
		const was = sides.choice(BEFORE, group, direction);
		const is = sides.choice(AFTER, group, direction);
		if (was === is) continue;
		const key = `${was.id} ${is.id}`;
		const known = found.get(key);
		if (known === undefined) found.set(key, { was, is, groups: [group] });
		else known.groups.push(group);
	}
	return found.values();
}

function* addPairs(
	rows: Rows,
	from: Group,
	to: Group,
	spans: readonly (Span & { way: Way })[],
): Steps<void> {
	for (const a of from.pods)
		for (const b of to.pods) {
			if (a === b) continue;
			yield;
			for (const { way, ...span } of spans) {
				const [source, target] = [nameOf(a), nameOf(b)];
				// The other family, or the other direction, has said it.
				if (rows.find(way, source, target, span.protocol, span.first) !== undefined) continue;
				if (!rows.add(way, source, target, span)) return;
			}
		}
}

/** Where both lines allow on one side and not on the other. Each protocol begins a span. */
function spansOf(was: readonly [Line, Line], is: readonly [Line, Line]): (Span & { way: Way })[] {
	const bounds = new Set([0, PORTS, 2 * PORTS, NO_PORTS]);
	for (const { starts } of [...was, ...is]) for (const start of starts) bounds.add(start);
	const passes = ([a, b]: readonly [Line, Line], at: number) => allowsAt(a, at) && allowsAt(b, at);
	const found: (Span & { way: Way })[] = [];
	let open: { way: Way; from: number } | undefined;
	const end = (next: number) => {
		if (open === undefined) return;
		const index = Math.floor(open.from / PORTS);
		const [first, last] = [open.from - index * PORTS, next - 1 - index * PORTS];
		found.push({ way: open.way, protocol: NAMES[index]!, first, last });
		open = undefined;
	};
	for (const at of [...bounds].sort((a, b) => a - b)) {
		const [before, after] = [passes(was, at), passes(is, at)];
		const way = before === after ? undefined : after ? "opened" : "closed";
		if (open !== undefined && (way !== open.way || at % PORTS === 0)) end(at);
		if (way !== undefined) open ??= { way, from: at };
	}
	end(NO_PORTS + 1);
	return found;
}

// ------------------------------------------------------------ 3 flows

/** Undefined: both sides say the same. */
function wayOf(sides: Sides, flow: Flow): Way | undefined {
	const [from, to] = [sides.at(flow.source), sides.at(flow.destination)];
	if (!isOther(sides, from, "egress") && !isOther(sides, to, "ingress")) return undefined;
	const [was, is] = [BEFORE, AFTER].map((side) => passes(sides, side, flow, from, to));
	if (was === is) return undefined;
	return is ? "opened" : "closed";
}

function isOther(sides: Sides, { group }: End, direction: "egress" | "ingress"): boolean {
	if (group === undefined) return false;
	return sides.choice(BEFORE, group, direction) !== sides.choice(AFTER, group, direction);
}

function passes(sides: Sides, side: number, flow: Flow, from: End, to: End): boolean {
	const position = positionOf(flow.protocol, flow.port);
	const isItself = from.pod !== undefined && from.pod === to.pod;
	const allows = (end: End, other: End, direction: "egress" | "ingress") =>
		end.group === undefined ||
		allowsAt(sides.line(sides.choice(side, end.group, direction), other, isItself), position);
	// A Pod's own Node reaches it, whatever the policies say.
	const isOwnNode = from.node !== undefined && from.node.name === to.pod?.node;
	return allows(from, to, "egress") && (isOwnNode || allows(to, from, "ingress"));
}
