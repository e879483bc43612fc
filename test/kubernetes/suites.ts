/** The suites of others: what each runs, and its list. */

import type { Cluster } from "./cluster.js";
import { runClusterPolicy } from "./cluster_policy.js";
import { casesEnded, destinations, runCyclonus } from "./cyclonus.js";
import { compared, readSuite, type SpecResult, type Suite } from "./suite.js";
import { endedIn, runListed } from "./upstream.js";

interface Options {
	/** Specs at once. */
	procs: number;
	/** cyclonus' cases of these names; "": all. */
	cases: string;
}
/** What runs at one time: one suite, or several of cyclonus, which share Pods. */
export interface Job {
	suites: readonly string[];
	/** For those who watch, as "12 of 47 specs". */
	progress: () => string;
	/** @returns for each suite a result for each spec of its list, and for each that ran without being listed */
	run: (cluster: Cluster, options: Options) => Promise<Map<string, SpecResult[]>>;
}

/** Lists of Kubernetes' own specs. */
export const upstream = ["conformance", "netpol", "network", "sctp", "pods"];
const cyclonus = new Map(
	destinations.map((destination) => [`cyclonus-${destination}`, destination]),
);
export const suiteNames: readonly string[] = [...upstream, "clusterpolicy", ...cyclonus.keys()];

/** The list of a suite: all of cyclonus have the same. */
export const listOf = (suite: string): string => (cyclonus.has(suite) ? "cyclonus" : suite);

/** Suites → jobs, in the order of `suiteNames`. */
export function jobsOf(suites: readonly string[]): Job[] {
	const jobs: Job[] = [];
	for (const name of upstream)
		if (suites.includes(name))
			jobs.push(
				single(
					name,
					(suite) =>
						(_, { procs }) =>
							runListed(suite, procs),
				),
			);
	if (suites.includes("clusterpolicy")) jobs.push(single("clusterpolicy", () => runClusterPolicy));
	const ofCyclonus = [...cyclonus.keys()].filter((name) => suites.includes(name));
	if (ofCyclonus.length > 0)
		jobs.push({
			suites: ofCyclonus,
			progress: () => `${casesEnded()} of ${readSuite("cyclonus").specs.length} cases`,
			run: (cluster, options) => runDestinations(cluster, ofCyclonus, options),
		});
	return jobs;
}

function single(
	name: string,
	runOf: (suite: Suite) => (cluster: Cluster, options: Options) => Promise<SpecResult[]>,
): Job {
	return {
		suites: [name],
		progress: () =>
			name === "clusterpolicy"
				? "goes on"
				: `${endedIn(name)} of ${readSuite(name).specs.length} specs`,
		run: async (cluster, options) => {
			const suite = readSuite(name);
			return new Map([[name, compared(suite, await runOf(suite)(cluster, options))]]);
		},
	};
}

async function runDestinations(
	cluster: Cluster,
	suites: readonly string[],
	{ cases }: Options,
): Promise<Map<string, SpecResult[]>> {
	const list = readSuite("cyclonus");
	const chosen = new RegExp(cases);
	const expected = { ...list, specs: list.specs.filter((spec) => chosen.test(spec)) };
	const wanted = suites.map((name) => cyclonus.get(name)!);
	const results = await runCyclonus(cluster, wanted, cases);
	return new Map(
		suites.map((name) => [name, compared(expected, results.get(cyclonus.get(name)!) ?? [])]),
	);
}
