/**
 * The ports that rules speak of, as one line of positions: TCP, UDP and SCTP with 65,536 each, then one for all
 * that has no ports (ICMP and other protocols), which only rules without ports match.
 */

import { atOnce, type Steps, sortInSteps } from "../loop/turns.js";

/** Inclusive on both ends. */
export interface Span {
	from: number;
	to: number;
}

const PORTS = 65_536;
const PROTOCOL_ORDER = [6, 17, 132];
/** The position of protocols without ports. */
export const NO_PORTS = PROTOCOL_ORDER.length * PORTS;
export const EVERY_PORT: Span = { from: 0, to: NO_PORTS };

/** @param protocol IPPROTO */
export function positionOf(protocol: number, port: number): number {
	const at = PROTOCOL_ORDER.indexOf(protocol);
	return at < 0 ? NO_PORTS : at * PORTS + port;
}

export function spanOf(protocol: number, first: number, last: number): Span {
	return { from: positionOf(protocol, first), to: positionOf(protocol, last) };
}

/** What becomes of a packet. */
export interface Judgement {
	allow: boolean;
	/** Id of the rule that decided; 0: nothing isolates, and no rule named it. */
	rule: number;
	/** If staged policies were enforced; absent: the same. */
	staged?: { allow: boolean; rule: number };
}

/** Sorted, the first from 0, each valid up to the next. Neighbours differ. */
export interface Segment {
	from: number;
	judgement: Judgement;
}

/** A rule as far as it is to be applied: its spans are where it matches. */
export interface Painter {
	/** Order of tiers: Admin, NetworkPolicy, Baseline. */
	tier: 0 | 1 | 2;
	action: "allow" | "deny" | "pass";
	rule: number;
	spans: readonly Span[];
}

/** Spans, positions or segments that are looked at between two steps: some 0.3 ms. */
const EVERY = 512;

/** The same positions in as few spans as there can be, sorted. */
export function* mergeSpans(spans: Span[]): Steps<readonly Span[]> {
	if (spans.length < 2) return spans;
	yield* sortInSteps(spans, (a, b) => a.from - b.from);
	const merged: Span[] = [];
	for (const [looked, { from, to }] of spans.entries()) {
		const last = merged.at(-1);
		if (last === undefined || from > last.to + 1) merged.push({ from, to });
		else if (to > last.to) last.to = to;
		if (looked % EVERY === 0) yield;
	}
	return merged;
}

/** Does all of it at once. */
export function paint(rules: readonly Painter[]): Segment[] {
	return atOnce(paintInSteps(rules));
}

/** The first rule that matches wins; "pass" leaves its tier. What none decides is allowed, by rule 0. */
export function* paintInSteps(rules: readonly Painter[]): Steps<Segment[]> {
	let looked = 0;
	const bounds = new Set([0]);
	for (const { spans } of rules)
		for (const { from, to } of spans) {
			bounds.add(from);
			if (to < NO_PORTS) bounds.add(to + 1);
			if (++looked % EVERY === 0) yield;
		}
	const starts = [...bounds];
	yield* sortInSteps(starts, (a, b) => a - b);
	const index = new Map<number, number>();
	for (const start of starts) {
		index.set(start, index.size);
		if (++looked % EVERY === 0) yield;
	}
	const count = starts.length;
	const decided: (Judgement | undefined)[] = new Array(count).fill(undefined);
	let next: number[] = [];
	/** The first cell from here on that is not yet taken in this tier. */
	const find = (cell: number): number => {
		let root = cell;
		while (next[root] !== root) root = next[root]!;
		for (let at = cell; at !== root; ) {
			const after = next[at]!;
			next[at] = root;
			at = after;
		}
		return root;
	};
	let tier = -1;
	for (const { tier: of, action, rule, spans } of rules) {
		if (of !== tier) {
			tier = of;
			next = new Array(count + 1);
			for (let i = count; i >= 0; i--) {
				next[i] = i < count && decided[i] !== undefined ? next[i + 1]! : i;
				if (++looked % EVERY === 0) yield;
			}
		}
		const judgement = { allow: action === "allow", rule };
		for (const { from, to } of spans) {
			const end = to >= NO_PORTS ? count : index.get(to + 1)!;
			for (let cell = find(index.get(from)!); cell < end; cell = find(cell)) {
				if (action !== "pass") decided[cell] = judgement;
				next[cell] = cell + 1;
				if (++looked % EVERY === 0) yield;
			}
			if (++looked % EVERY === 0) yield;
		}
	}
	const open = { allow: true, rule: 0 };
	const segments: Segment[] = [];
	for (const [i, from] of starts.entries()) {
		const judgement = decided[i] ?? open;
		const last = segments.at(-1)?.judgement;
		if (last === undefined || last.allow !== judgement.allow || last.rule !== judgement.rule)
			segments.push({ from, judgement });
		if (++looked % EVERY === 0) yield;
	}
	return segments;
}

/** Adds the staged judgements where they differ from the enforced ones. Both come from `paint`. */
export function* withStaged(
	enforced: readonly Segment[],
	staged: readonly Segment[],
): Steps<Segment[]> {
	const segments: Segment[] = [];
	let [i, j] = [0, 0];
	for (let from = 0; ; ) {
		const [now, then] = [enforced[i]!.judgement, staged[j]!.judgement];
		const same = now.allow === then.allow && now.rule === then.rule;
		segments.push({ from, judgement: same ? now : { ...now, staged: then } });
		const ends = [
			enforced[i + 1]?.from ?? Number.POSITIVE_INFINITY,
			staged[j + 1]?.from ?? Number.POSITIVE_INFINITY,
		];
		from = Math.min(...ends);
		if (from === Number.POSITIVE_INFINITY) return segments;
		if (ends[0] === from) i++;
		if (ends[1] === from) j++;
		if (segments.length % EVERY === 0) yield;
	}
}

/** @param segments at least one */
export function judgementAt(segments: readonly Segment[], position: number): Judgement {
	let [low, high] = [0, segments.length - 1];
	while (low < high) {
		const middle = (low + high + 1) >> 1;
		if (segments[middle]!.from <= position) low = middle;
		else high = middle - 1;
	}
	return segments[low]!.judgement;
}
