/**
 * The largest packet that a path carries (packetization layer path MTU discovery, RFC 8899), where the
 * full size is lost without a word. Many sizes are asked with at once, thrice; between the largest
 * that is answered and the next above it, many again, until there is nothing between. Pure.
 */

export interface SizeSearch {
	/** Known to be carried; 0: nothing is. */
	works: number;
	/** Believed not to be carried. */
	fails: number;
	/** Ascending. */
	candidates: readonly number[];
	/** Times that the candidates have been asked with. */
	rounds: number;
	/** When the next step is due. */
	nextAt: number;
}

/** Sizes at once: their packets are what a search costs. */
const VOLLEY = 12;
const ROUNDS = 3;

/** From `floor` to `full`, both included. */
export function startSearch(floor: number, full: number, now: number): SizeSearch {
	const inner = between(floor, full, VOLLEY - 2);
	const candidates = [...new Set([floor, ...inner, full])];
	return { works: 0, fails: full + 1, candidates, rounds: 0, nextAt: now };
}

export function searchAnswered(search: SizeSearch, length: number): SizeSearch {
	if (length <= search.works || length >= search.fails) return search;
	const works = length;
	const isLast = search.candidates.every((candidate) => candidate <= works);
	// What is known need not be waited for.
	return {
		...search,
		works,
		rounds: isLast ? ROUNDS : search.rounds,
		nextAt: isLast ? 0 : search.nextAt,
	};
}

export interface SearchStep {
	search: SizeSearch;
	/** Sizes to ask with now. */
	ask: readonly number[];
	/** `search.works` is all that the path carries. */
	done: boolean;
}

/** What is due `now`; a path's answers come within `timeout`, rounds are `gap` apart. */
export function searchStep(
	search: SizeSearch,
	now: number,
	{ gap, timeout }: { gap: number; timeout: number },
): SearchStep {
	if (now < search.nextAt) return { search, ask: [], done: false };
	const { works, candidates, rounds } = search;
	if (rounds < ROUNDS) {
		// A path that carries a size carries every smaller one.
		const ask = candidates.filter((candidate) => candidate > works);
		const nextAt = now + (rounds + 1 < ROUNDS ? gap : timeout);
		return { search: { ...search, rounds: rounds + 1, nextAt }, ask, done: false };
	}
	const fails = Math.min(search.fails, ...candidates.filter((candidate) => candidate > works));
	const next = works === 0 ? [] : between(works, fails, VOLLEY);
	const after = { works, fails, candidates: next, rounds: 0, nextAt: now };
	return next.length === 0
		? { search: after, ask: [], done: true }
		: searchStep(after, now, { gap, timeout });
}

/** At most `count` whole numbers between two others, evenly spread. */
function between(low: number, high: number, count: number): number[] {
	const inner = Math.min(count, high - low - 1);
	const numbers: number[] = [];
	for (let i = 1; i <= inner; i++) numbers.push(low + Math.round(((high - low) * i) / (inner + 1)));
	return numbers;
}
