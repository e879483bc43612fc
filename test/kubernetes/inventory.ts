/** All of Kubernetes' specs of [sig-network] are in a suite, or left out for a reason: those of a new version are noticed. */
import { type LeftOut, leftOut } from "./left_out.js";
import { readSuite } from "./suite.js";
import { upstream } from "./suites.js";

/** Names of specs in suites of Kubernetes' own. */
export const listed = (): Set<string> => new Set(upstream.flatMap((name) => readSuite(name).specs));

/**
 * @param specs names of all specs of [sig-network]
 * @returns a sentence for each spec that is nowhere, and for each number in left_out.ts that is not so
 */
export function faultsOf(
	specs: readonly string[],
	inSuites: ReadonlySet<string> = listed(),
	reasons: readonly LeftOut[] = leftOut,
): string[] {
	const counts = new Map(reasons.map((one) => [one, 0]));
	const faults: string[] = [];
	for (const spec of specs) {
		if (inSuites.has(spec)) continue;
		const reason = reasons.find(({ pattern }) => new RegExp(pattern).test(spec));
		if (reason === undefined) faults.push(`${spec} is in no suite, and left out for no reason.`);
		else counts.set(reason, counts.get(reason)! + 1);
	}
	for (const [{ specs: what, count }, found] of counts)
		if (found !== count) faults.push(`${what}: expected ${count} specs, got ${found}.`);
	return faults;
}
