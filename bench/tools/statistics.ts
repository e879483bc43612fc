/** Statistics of repeated measurements. Pure. */

export interface Spread {
	median: number;
	least: number;
	greatest: number;
}

/** @throws RangeError if there are no values. */
export function spread(values: readonly number[]): Spread {
	if (values.length === 0) throw new RangeError("Cannot take a median: expected values, got none");
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	const upper = sorted[middle]!;
	const median = sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
	return { median, least: sorted[0]!, greatest: sorted.at(-1)! };
}

/** The smallest value that this share of the values does not exceed; 1: the largest. */
export function quantile(values: readonly number[], share: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** Ratios of two alternating measurements, round by round, so that common disturbances cancel out. */
export function ratios(values: readonly number[], others: readonly number[]): Spread {
	return spread(values.map((value, round) => value / others[round]!));
}

/** "1234 (1200–1300)" */
export function shownSpread({ median, least, greatest }: Spread, digits = 0): string {
	const text = (value: number) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
	return `${text(median)} (${text(least)}–${text(greatest)})`;
}
