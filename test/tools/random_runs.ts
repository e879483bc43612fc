/** How often a random test runs, and the time that so many runs may take. */
import t from "tap";

/** Time limit of a usual run of a whole file, ms, as in .taprc. */
const FILE_MS = 300_000;

/**
 * The runs that a variable of the environment asks for. More than the usual ones get more time: tap would end the file
 * after 30 s, and `tap run` does so after .taprc's timeout in any case, so long runs are for node itself:
 *
 *   POLICY_RUNS=5000 node --import=tsx test/unit/policy_tables.test.ts
 */
export function runsOf(variable: string, usual: number): number {
	const runs = Number(process.env[variable] ?? usual);
	t.setTimeout(FILE_MS * Math.max(1, runs / usual));
	return runs;
}
