/**
 * Draws conclusions from a survey: one peer was probed over every combination of paths; which directions
 * of which path work? Pure: the prober sends, this file concludes.
 *
 * An answer proves the forward path of its request and its own return path, for their lengths and all
 * smaller ones. Silence says something about one direction only if the other is proven.
 */
import type { TunnelType } from "../../config/config.js";
import type { DirectKind } from "../../tables/paths.js";

/** "direct": like a Pod's packet on the Node network (to the peer's MAC, or routed). */
export type Way = "direct" | "tunnel";

/** Requests with one combination of forward path, return path and size; lengths of IP packets. */
export interface SurveyCell {
	there: Way;
	back: Way;
	length: number;
	/** Never more than `length`. */
	answerLength: number;
	asked: number;
	answered: number;
	roundTripMs: number | null;
}

/** One peer in one family. */
export interface PathSurvey {
	node: string;
	family: 4 | 6;
	transportAddress: string;
	/** `none`: the Nodes have no such path, and why (a clause). */
	direct: { kind: DirectKind; mtu: number } | { none: string };
	tunnel: { kind: TunnelType; mtu: number } | { none: string };
	cells: SurveyCell[];
	/** True: the peer has ever answered a probe. */
	answers: boolean;
}

export type Finding = "works" | "fails" | "unknown";

/** Packets of one size in one direction. */
export interface Leg {
	/** Length of the IP packet; 0: none was sent. */
	length: number;
	finding: Finding;
	/** Share of unanswered requests, 0 to 1, of the best combination; null unless it works. */
	loss: number | null;
}

/** One direction of a path. */
export interface Direction {
	small: Leg;
	/** Packets as long as the path's MTU. */
	full: Leg;
	/** The longest packet proven to get through; 0: none. */
	largest: number;
}

export interface WayFindings {
	there: Direction;
	back: Direction;
	/**
	 * "works": both sizes in both directions. "fails": at least one of them does not, even if it is
	 * unknown which.
	 */
	state: Finding;
	/** Round trip of small packets with this path in both directions. */
	roundTripMs: number | null;
}

export interface Findings {
	/** null: there is no such path. */
	direct: WayFindings | null;
	tunnel: WayFindings | null;
	/** Whether any request was sent, and any answered. */
	asked: boolean;
	answered: boolean;
}

type End = "there" | "back";

export function deduce(survey: PathSurvey): Findings {
	const cells = survey.cells.filter(({ asked }) => asked > 0);
	const answered = cells.some(isAnswered);
	const findings = (way: Way): WayFindings | null => {
		const path = survey[way];
		if ("none" in path) return null;
		const there = direction(cells, way, "there", path.mtu);
		const back = direction(cells, way, "back", path.mtu);
		const own = cells.filter((cell) => cell.there === way && cell.back === way);
		return {
			there,
			back,
			state: stateOf(there, back, answered && own.some((cell) => !isAnswered(cell))),
			roundTripMs: shortest(own)?.roundTripMs ?? null,
		};
	};
	return {
		direct: findings("direct"),
		tunnel: findings("tunnel"),
		asked: cells.length > 0,
		answered,
	};
}

function direction(cells: readonly SurveyCell[], way: Way, end: End, mtu: number): Direction {
	const mine = cells.filter((cell) => cell[end] === way);
	const largest = largestProven(cells, way, end);
	const other = end === "there" ? "back" : "there";
	const stopped = mine
		.filter((cell) => !isAnswered(cell))
		.filter((cell) => lengthOf(cell, other) <= largestProven(cells, cell[other], other))
		.map((cell) => lengthOf(cell, end));
	const smallestStopped = Math.min(...stopped);
	const leg = (length: number): Leg => {
		const works = largest > 0 && length <= largest;
		const finding = works ? "works" : smallestStopped <= length ? "fails" : "unknown";
		const losses = mine
			.filter((cell) => works && lengthOf(cell, end) >= length)
			.map((cell) => 1 - Math.min(1, cell.answered / cell.asked));
		return { length, finding, loss: works ? Math.min(1, ...losses) : null };
	};
	const lengths = mine.map((cell) => lengthOf(cell, end));
	return { small: leg(lengths.length > 0 ? Math.min(...lengths) : 0), full: leg(mtu), largest };
}

/** `silence`: a request with this path in both directions was not answered. */
function stateOf(there: Direction, back: Direction, silence: boolean): Finding {
	const findings = [there.small, there.full, back.small, back.full].map(({ finding }) => finding);
	if (findings.every((finding) => finding === "works")) return "works";
	return silence || findings.includes("fails") ? "fails" : "unknown";
}

function largestProven(cells: readonly SurveyCell[], way: Way, end: End): number {
	const proven = cells.filter((cell) => cell[end] === way && isAnswered(cell));
	return Math.max(0, ...proven.map((cell) => lengthOf(cell, end)));
}

function isAnswered({ answered }: SurveyCell): boolean {
	return answered > 0;
}

function lengthOf(cell: SurveyCell, end: End): number {
	return end === "there" ? cell.length : cell.answerLength;
}

function shortest(cells: readonly SurveyCell[]): SurveyCell | undefined {
	return cells.reduce<SurveyCell | undefined>(
		(best, cell) => (best === undefined || cell.length < best.length ? cell : best),
		undefined,
	);
}
