/** A performance target beside what the benches have recorded. */
import type { Spread } from "./statistics.js";

export interface Claim {
	scenario: string;
	/** What the numbers are multiples of, or their unit. */
	of: string;
	limit: number | undefined;
	/** More is better. */
	atLeast?: boolean;
	/** By name; all of them have to meet the limit. */
	measured: Record<string, Spread | undefined>;
	floors?: Record<string, Spread | undefined>;
	digits?: number;
}
