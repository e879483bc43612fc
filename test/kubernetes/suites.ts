/** The suites of others: what each runs, and its list. */

import type { Cluster } from "./cluster.js";
import { runClusterPolicy } from "./cluster_policy.js";
import { destinations, runCyclonus } from "./cyclonus.js";
import { compared, readSuite, type SpecResult } from "./suite.js";
import { runListed } from "./upstream.js";

interface Options {
	/** Specs at once. */
	procs: number;
	/** cyclonus' cases of these names; "": all. */
	cases: string;
}
type Run = (cluster: Cluster, options: Options) => Promise<SpecResult[]>;

/** Lists of Kubernetes' own specs. */
const upstream = ["conformance", "netpol", "network", "pods"];

const suites = new Map<string, { list: string; run: Run }>([
	...upstream.map((name): [string, { list: string; run: Run }] => [
		name,
		{ list: name, run: (_, { procs }) => runListed(readSuite(name), procs) },
	]),
	["clusterpolicy", { list: "clusterpolicy", run: runClusterPolicy }],
	...destinations.map((destination): [string, { list: string; run: Run }] => [
		`cyclonus-${destination}`,
		{ list: "cyclonus", run: (cluster, { cases }) => runCyclonus(cluster, destination, cases) },
	]),
]);

export const suiteNames: readonly string[] = [...suites.keys()];

/** Runs a suite; a result for each spec of its list, and for each that ran without being listed. */
export async function runSuite(
	cluster: Cluster,
	name: string,
	options: Options,
): Promise<SpecResult[]> {
	const { list, run } = suites.get(name)!;
	const suite = readSuite(list);
	const results = await run(cluster, options);
	if (options.cases === "" || list !== "cyclonus") return compared(suite, results);
	const chosen = new RegExp(options.cases);
	return compared({ ...suite, specs: suite.specs.filter((spec) => chosen.test(spec)) }, results);
}
