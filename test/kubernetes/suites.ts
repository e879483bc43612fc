/** The suites of others: what each runs, and its list. */

import type { Cluster } from "./cluster.js";
import { runClusterPolicy } from "./cluster_policy.js";
import { destinations, runCyclonus } from "./cyclonus.js";
import { compared, readSuite, type SpecResult } from "./suite.js";
import { runListed } from "./upstream.js";

type Run = (cluster: Cluster, procs: number) => Promise<SpecResult[]>;

/** Lists of Kubernetes' own specs. */
const upstream = ["conformance", "netpol", "network", "pods"];

const suites = new Map<string, { list: string; run: Run }>([
	...upstream.map((name): [string, { list: string; run: Run }] => [
		name,
		{ list: name, run: (_, procs) => runListed(readSuite(name), procs) },
	]),
	["clusterpolicy", { list: "clusterpolicy", run: runClusterPolicy }],
	...destinations.map((destination): [string, { list: string; run: Run }] => [
		`cyclonus-${destination}`,
		{ list: "cyclonus", run: (cluster) => runCyclonus(cluster, destination) },
	]),
]);

export const suiteNames: readonly string[] = [...suites.keys()];

/** Runs a suite; a result for each spec of its list, and for each that ran without being listed. */
export async function runSuite(
	cluster: Cluster,
	name: string,
	procs: number,
): Promise<SpecResult[]> {
	const { list, run } = suites.get(name)!;
	return compared(readSuite(list), await run(cluster, procs));
}
