/**
 * docs/CONFORMANCE.md: what the last complete run of each suite gave on each network. Its sections:
 *
 *  1. the cluster, and what is in each suite: written here and in the suites' lists
 *  2. results: a row for each suite, first family and proxy; `record` replaces one cell
 *  3. failed specs; what is said of one after its name stays until the suite is recorded again
 *  4. specs that are in no suite: left_out.ts
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../src/lab/repository.js";
import { firstFamily } from "./layout.js";
import { leftOut } from "./left_out.js";
import { type Network, networks, type ServiceProxy } from "./network.js";
import { readSuite, type SpecResult } from "./suite.js";
import { listOf, suiteNames } from "./suites.js";

const file = join(root, "docs/CONFORMANCE.md");

const cluster = `# Conformance

Results of upstream's end-to-end suites with Fairway on a real cluster. \`npm run test:cluster -- --record\` writes this
page; [test/kubernetes](../test/kubernetes/README.md) describes how to run the suites yourself, and
\`git log docs/CONFORMANCE.md\` shows the commit at which each result was recorded.

## The cluster

| | |
| --- | --- |
| Kubernetes | 1.37.2, built from its Go modules; containerd 1.6.20 and runc 1.1.5 of Debian 12; Linux 6.18 |
| Nodes | three, in two subnets; the router between them drops Pod addresses, except in \`noEncap\`, where it has a route for each pod CIDR |
| families | dual stack; a Service that specifies no family gets the first |
| Fairway | \`kubectl apply -f deploy/fairway.yaml\`, with \`trafficEncapMode\` as in the column and \`fairwayProxy.externalIPs: true\` (a spec of \`network\` asks for external IPs, which are off by default) |
| Services | by Fairway, without kube-proxy in the cluster; or by kube-proxy (nftables mode), with \`fairwayProxy.enable: false\` |
| \`plain\` | the same cluster without Fairway: the reference plugins ptp and portmap, and kube-proxy. It shows what can pass here |
| \`kube-router\` | \`plain\` with kube-router 2.1.0 as firewall: the measure for network policies |
`;

/** Suite → what it tests, and whose it is. */
const contents = new Map<string, [string, string]>([
	["conformance", ["all of [sig-network] [Conformance]", "Kubernetes 1.37.2"]],
	[
		"netpol",
		["all of [sig-network] Netpol: NetworkPolicy, with TCP, UDP and SCTP", "Kubernetes 1.37.2"],
	],
	[
		"network",
		[
			"all other specs of [sig-network] that can pass on this cluster: Services, load balancers, traffic policies, topology, conntrack, dual stack",
			"Kubernetes 1.37.2",
		],
	],
	["sctp", ["a Service and a hostPort of SCTP, to which nothing is sent", "Kubernetes 1.37.2"]],
	[
		"pods",
		[
			"the specs of `conformance` and `network` that only need Pods and Nodes: the first to run on a new network",
			"Kubernetes 1.37.2",
		],
	],
	[
		"clusterpolicy",
		["conformance of ClusterNetworkPolicy v1beta1, with all features", "network-policy-api v0.3.0"],
	],
	[
		"cyclonus-pod-ip",
		[
			"all cases of NetworkPolicy that the generator makes, none excluded by tag: nine Pods in three namespaces connect to each other's addresses by TCP, UDP and SCTP",
			"cyclonus v0.5.6",
		],
	],
	["cyclonus-service-ip", ["the same cases, to a Service of each Pod", "cyclonus v0.5.6"]],
	["cyclonus-service-name", ["the same cases, to the Service's name", "cyclonus v0.5.6"]],
]);

const row = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;

function suitesSection(): string[] {
	const sizes = new Map(suiteNames.map((name) => [name, readSuite(listOf(name)).specs.length]));
	const upstream = ["conformance", "netpol", "network", "sctp"];
	const listed = upstream.reduce((sum, name) => sum + sizes.get(name)!, 0);
	const out = leftOut.reduce((sum, { count }) => sum + count, 0);
	return [
		"",
		"## The suites",
		"",
		row(["suite", "specs", "what it tests", "from"]),
		row(["---", "---:", "---", "---"]),
		...[...contents].map(([name, [what, from]]) =>
			row([`\`${name}\``, sizes.get(name)!, what, from]),
		),
		"",
		`Kubernetes has ${listed + out} specs of [sig-network]. ${listed} are in ${upstream
			.map((name) => `\`${name}\``)
			.join(", ")}; [${out} are left out](#left-out). The lists are in`,
		"[test/kubernetes/suites](../test/kubernetes/suites); a listed spec that does not run has failed.",
		"",
		"The kernel has no SCTP. For network policies a small program in the Pods",
		"([agnhost/sctp](../test/kubernetes/modules/agnhost/sctp)) opens and accepts associations on raw sockets.",
	];
}

/** "network | IPv4 | Fairway" → network → "119 of 119" */
type Rows = Map<string, Map<Network, string>>;

export interface ConformanceDocument {
	rows: Rows;
	/** Lines of the list, each begins with its `place`. */
	failed: string[];
}

const names: Record<ServiceProxy, string> = { fairway: "Fairway", "kube-proxy": "kube-proxy" };
const resultsTitle = "## Results";

/** @param text the document as `render` made it */
export function parse(text: string): ConformanceDocument {
	const rows: Rows = new Map();
	const lines = text.split("\n");
	const start = lines.indexOf(resultsTitle);
	for (const line of start === -1 ? [] : lines.slice(start + 1)) {
		if (line.startsWith("## ")) break;
		if (!line.startsWith("| `")) continue;
		const [, suite = "", family, proxy, ...cells] = line.split("|").map((cell) => cell.trim());
		rows.set(
			[suite.replaceAll("`", ""), family, proxy].join(" | "),
			new Map(networks.map((network, at) => [network, cells[at] ?? ""])),
		);
	}
	return { rows, failed: lines.filter((line) => line.startsWith("- `")) };
}

export interface SuiteRun {
	suite: string;
	network: Network;
	family: 4 | 6;
	proxy: ServiceProxy;
	results: readonly SpecResult[];
}

/** The document with one suite's result in one network replaced. */
export function recorded(
	{ rows, failed }: ConformanceDocument,
	{ suite, network, family, proxy, results }: SuiteRun,
): ConformanceDocument {
	const key = [suite, `IPv${family}`, names[proxy]].join(" | ");
	const passed = results.filter(({ state }) => state === "passed").length;
	const cells = new Map([
		...(rows.get(key) ?? []),
		[network, `${passed} of ${results.length}`] as const,
	]);
	const place = `- \`${suite}\`, ${network}, IPv${family} first, ${names[proxy]}: `;
	return {
		rows: new Map([...rows, [key, cells]]),
		failed: [
			...failed.filter((line) => !line.startsWith(place)),
			...results.filter(({ state }) => state !== "passed").map(({ name }) => `${place}${name}`),
		],
	};
}

export function render({ rows, failed }: ConformanceDocument): string {
	const order = (key: string): string => {
		const [suite = "", ...rest] = key.split(" | ");
		return [String(suiteNames.indexOf(suite)).padStart(2, "0"), ...rest].join();
	};
	return [
		cluster.trimEnd(),
		...suitesSection(),
		"",
		resultsTitle,
		"",
		"Specs that passed, of those in the suite. An empty cell was not run; `plain` enforces no policies.",
		"",
		row(["suite", "first family", "Services", ...networks]),
		row(["---", "---", "---", ...networks.map(() => "---")]),
		...[...rows]
			.toSorted(([a], [b]) => (order(a) < order(b) ? -1 : 1))
			.map(([key, cells]) => {
				const [suite, ...rest] = key.split(" | ");
				return row([`\`${suite}\``, ...rest, ...networks.map((one) => cells.get(one) ?? "")]);
			}),
		"",
		"## Failed",
		"",
		...(failed.length === 0 ? ["None."] : failed),
		"",
		"## Left out",
		"",
		"Specs of [sig-network] that are in no suite, since this cluster cannot pass them with any network:",
		"",
		row(["specs", "number", "reason"]),
		row(["---", "---:", "---"]),
		...leftOut.map(({ specs, count, reason }) => row([specs, count, reason])),
		"",
	].join("\n");
}

/** Replaces one suite's result in one network, with the first family of this run's cluster. */
export function record(
	suite: string,
	network: Network,
	proxy: ServiceProxy,
	results: readonly SpecResult[],
): void {
	const document = parse(readFileSync(file, "utf8"));
	const run = { suite, network, family: firstFamily, proxy, results } as const;
	writeFileSync(file, render(recorded(document, run)));
}
