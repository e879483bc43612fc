/**
 * What was asked of one peer over every combination of ways, and what the answers tell of each
 * direction of each way. Pure: the prober asks, this file concludes.
 *
 * An answer proves its question's way there and its own way back, for its length and all smaller
 * ones. Silence tells of one direction only when the other is proven; else nothing is said.
 */

/** "direct": as a Pod's packet on the Node network (to the peer's MAC, or routed). */
export type Way = "direct" | "tunnel";

/** Questions asked with one combination of way there, way back and size; lengths of IP packets. */
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
	direct: { kind: "direct" | "routed"; mtu: number } | { none: string };
	tunnel: { kind: "geneve" | "vxlan"; mtu: number } | { none: string };
	cells: SurveyCell[];
	/** The peer has answered some probe at some time. */
	answers: boolean;
}

export type Finding = "works" | "fails" | "unknown";

/** Packets of one size in one direction. */
export interface Leg {
	/** Of the IP packet; 0: none was asked with. */
	length: number;
	finding: Finding;
	/** Share of questions without answer, 0..1, of the best that used it; null unless it works. */
	loss: number | null;
}

/** One direction of a way. */
export interface Direction {
	small: Leg;
	/** As long as the way's MTU. */
	full: Leg;
	/** The longest packet that is proven to get through; 0: none. */
	largest: number;
}

export interface WayFindings {
	there: Direction;
	back: Direction;
	/**
	 * "works": both sizes, both directions. "fails": one of them does not, even where it cannot be
	 * told which.
	 */
	state: Finding;
	/** Of small packets, there and back the same way. */
	roundTripMs: number | null;
}

export interface Findings {
	/** null: there is no such path. */
	direct: WayFindings | null;
	tunnel: WayFindings | null;
	/** Was anything asked, and any of it answered? */
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

/** `silence`: a question that went and should have come back this way has no answer. */
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
