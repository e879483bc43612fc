/** Suggests the intended word for a misspelled one. */

/** The nearest candidate, if its edit distance is at most a third of its length, ignoring case. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
	let best: string | undefined;
	let least = Number.POSITIVE_INFINITY;
	for (const candidate of candidates) {
		if (Math.abs(candidate.length - word.length) > candidate.length / 3) continue;
		const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
		if (distance < least && distance <= candidate.length / 3) {
			best = candidate;
			least = distance;
		}
	}
	return best;
}

/** Levenshtein distance: insertions, deletions and replacements of one character. */
function editDistance(a: string, b: string): number {
	let row = Array.from({ length: b.length + 1 }, (_, i) => i);
	for (let i = 1; i <= a.length; i++) {
		const next = [i];
		for (let j = 1; j <= b.length; j++) {
			const replace = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
			next.push(Math.min(replace, row[j]! + 1, next[j - 1]! + 1));
		}
		row = next;
	}
	return row[b.length]!;
}
