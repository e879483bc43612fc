/** docs/CONFORMANCE.md: what the last full run of each suite gave in each mode. Written by the run. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../src/lab/repository.js";
import { type Network, networks } from "./network.js";
import type { SpecResult } from "./upstream.js";

const file = join(root, "docs/CONFORMANCE.md");

const head = `# Conformance

Upstream's end-to-end specs (Kubernetes 1.37.2, \`test/e2e/network\`) on a cluster of three Nodes in two subnets, dual
stack, installed by \`kubectl apply -f deploy/fairway.yaml\`, with kube-proxy (nftables) for Services. Written by
\`npm run test:cluster\`; the lists of specs are in [test/kubernetes/suites](../test/kubernetes/suites). \`plain\` is
the same cluster with the reference plugins ptp and portmap: the measure of what can pass on it.

\`conformance\` is all of [sig-network] [Conformance]; \`pods\` is connectivity between Pods and Nodes in both families;
\`network\` is what else of [sig-network] the plain network passes.

`;

/** Suite → network → "47 of 47 passed, …" */
type Rows = Map<string, Map<Network, string>>;

function readRows(): Rows {
	const rows: Rows = new Map();
	let text = "";
	try {
		text = readFileSync(file, "utf8");
	} catch {
		return rows;
	}
	for (const line of text.split("\n")) {
		const [, suite, ...cells] = line.split("|").map((cell) => cell.trim());
		if (suite === undefined || suite === "suite" || suite.startsWith("-")) continue;
		rows.set(suite, new Map(networks.map((network, at) => [network, cells[at] ?? ""])));
	}
	return rows;
}

/** Replaces one suite's result in one network. */
export function record(suite: string, network: Network, results: readonly SpecResult[]): void {
	const rows = readRows();
	const passed = results.filter(({ state }) => state === "passed").length;
	const row = rows.get(suite) ?? new Map<Network, string>();
	row.set(network, `${passed} of ${results.length}`);
	rows.set(suite, row);
	const table = [
		["suite", ...networks],
		["---", ...networks.map(() => "---")],
		...[...rows].map(([name, cells]) => [name, ...networks.map((one) => cells.get(one) ?? "")]),
	];
	const lines = table.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
	writeFileSync(file, `${head}${lines}\n`);
}
