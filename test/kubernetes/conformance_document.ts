/** docs/CONFORMANCE.md: what the last full run of each suite gave on each network. Written by the run. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../src/lab/repository.js";
import { firstFamily } from "./layout.js";
import { leftOut } from "./left_out.js";
import { type Network, networks, type ServiceProxy } from "./network.js";
import type { SpecResult } from "./suite.js";

const file = join(root, "docs/CONFORMANCE.md");

const head = `# Conformance

Upstream's end-to-end specs (Kubernetes 1.37.2, \`test/e2e/network\`) on a cluster of three Nodes in two subnets, dual
stack (IPv4 first, if not said otherwise), installed by \`kubectl apply -f deploy/fairway.yaml\`; Services by Fairway alone
(\`fairwayProxy.externalIPs\` is on), or by kube-proxy (nftables) beside it. Written by \`npm run test:cluster\`; the lists of specs are in
[test/kubernetes/suites](../test/kubernetes/suites). \`plain\` is the same cluster with the reference plugins ptp and
portmap: the measure of what can pass on it. \`kube-router\` is \`plain\` with kube-router's firewall, the measure for
policies.

\`conformance\` is all of [sig-network] [Conformance]; \`pods\` is connectivity between Pods and Nodes in both families;
\`network\` is what else of [sig-network] the plain network passes, with load balancers that the lab's router stands for.

Network policies: \`netpol\` is upstream's specs of NetworkPolicy; \`clusterpolicy\` is the conformance suite of
network-policy-api v0.3.0 with all its features (ClusterNetworkPolicy v1beta1); \`cyclonus-…\` is all 230 cases that the
generator of cyclonus v0.5.6 makes, with connections by TCP, UDP and SCTP to the other Pods' addresses, to a Service of each
Pod, and to that Service's name. The kernel has no SCTP: a small program in the Pods
([agnhost/sctp](../test/kubernetes/modules/agnhost/sctp)) opens and accepts associations on raw sockets.

`;

/** "conformance | Fairway" → network → "47 of 47" */
type Rows = Map<string, Map<Network, string>>;

const names: Record<ServiceProxy, string> = { fairway: "Fairway", "kube-proxy": "kube-proxy" };

function read(): { rows: Rows; failed: string[] } {
	const rows: Rows = new Map();
	let text = "";
	try {
		text = readFileSync(file, "utf8");
	} catch {
		return { rows, failed: [] };
	}
	const lines = text.split("\n");
	for (const line of lines) {
		// Other tables follow.
		if (line.startsWith("## ")) break;
		const [, suite, proxy, ...cells] = line.split("|").map((cell) => cell.trim());
		if (suite === undefined || suite === "suite" || suite.startsWith("-")) continue;
		rows.set(
			`${suite} | ${proxy}`,
			new Map(networks.map((network, at) => [network, cells[at] ?? ""])),
		);
	}
	return { rows, failed: lines.filter((line) => line.startsWith("- `")) };
}

/** Replaces one suite's result in one network. */
export function record(
	suite: string,
	network: Network,
	proxy: ServiceProxy,
	results: readonly SpecResult[],
): void {
	const { rows, failed } = read();
	const title = firstFamily === 6 ? `${suite}, IPv6 first` : suite;
	const key = `${title} | ${names[proxy]}`;
	const passed = results.filter(({ state }) => state === "passed").length;
	rows.set(
		key,
		new Map([...(rows.get(key) ?? []), [network, `${passed} of ${results.length}`]] as const),
	);
	const place = `- \`${title}\`, ${network}, ${names[proxy]}: `;
	const failures = [
		...failed.filter((line) => !line.startsWith(place)),
		...results.filter(({ state }) => state !== "passed").map(({ name }) => `${place}${name}`),
	];
	writeFileSync(file, render(rows, failures));
}

function render(rows: Rows, failures: readonly string[]): string {
	const table = [
		["suite", "Services", ...networks],
		["---", "---", ...networks.map(() => "---")],
		...[...rows]
			.toSorted(([a], [b]) => (a < b ? -1 : 1))
			.map(([key, cells]) => [...key.split(" | "), ...networks.map((one) => cells.get(one) ?? "")]),
	];
	return [
		head + table.map((cells) => `| ${cells.join(" | ")} |`).join("\n"),
		...(failures.length === 0 ? [] : ["", "## Failed", "", ...failures]),
		"",
		"## Left out",
		"",
		"Specs that are in none of the lists, since this cluster cannot pass them with any network:",
		"",
		"| specs | reason |",
		"| --- | --- |",
		...leftOut.map(({ specs, reason }) => `| ${specs} | ${reason} |`),
		"",
	].join("\n");
}
