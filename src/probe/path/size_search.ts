/**
 * Finds the largest packet that a path carries (packetization layer path MTU discovery, RFC 8899) if
 * full-size packets are silently lost. Probes many sizes at once, three times; then again many sizes
 * between the largest that was answered and the next one above, until nothing is between. Pure.
 */

export interface SizeSearch {
	/** The largest size known to get through; 0: none. */
	works: number;
	/** The smallest size believed not to get through. */
	fails: number;
	/** Ascending. */
	candidates: readonly number[];
	/** How often the candidates have been probed. */
	rounds: number;
	/** When the next step is due. */
	nextAt: number;
}

/** Sizes at once; their packets are the cost of a search. */
const VOLLEY = 12;
const ROUNDS = 3;

/** Starts a search from `floor` to `full`, inclusive. */
export function startSearch(floor: number, full: number, now: number): SizeSearch {
	const inner = between(floor, full, VOLLEY - 2);
	const candidates = [...new Set([floor, ...inner, full])];
	return { works: 0, fails: full + 1, candidates, rounds: 0, nextAt: now };
}

export function searchAnswered(search: SizeSearch, length: number): SizeSearch {
	if (length <= search.works || length >= search.fails) return search;
	const works = length;
	const isLast = search.candidates.every((candidate) => candidate <= works);
	// Known results need no waiting.
	return {
		...search,
		works,
		rounds: isLast ? ROUNDS : search.rounds,
		nextAt: isLast ? 0 : search.nextAt,
	};
}

export interface SearchStep {
	search: SizeSearch;
	/** Sizes to probe now. */
	ask: readonly number[];
	/** True: `search.works` is the largest size. */
	done: boolean;
}

/** The step due `now`; answers arrive within `timeout`, rounds are `gap` apart. */
export function searchStep(
	search: SizeSearch,
	now: number,
	{ gap, timeout }: { gap: number; timeout: number },
): SearchStep {
	if (now < search.nextAt) return { search, ask: [], done: false };
	const { works, candidates, rounds } = search;
	if (rounds < ROUNDS) {
		// A path that carries a size carries all smaller ones.
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

/** At most `count` evenly spread integers between two others. */
function between(low: number, high: number, count: number): number[] {
	const inner = Math.min(count, high - low - 1);
	const numbers: number[] = [];
	for (let i = 1; i <= inner; i++) numbers.push(low + Math.round(((high - low) * i) / (inner + 1)));
	return numbers;
}
