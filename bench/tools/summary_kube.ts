/** Targets of the agent as a client of a Kubernetes API (bench/kube.ts), of CNI calls (bench/cni.ts) and of Deployments. Pure. */
import type { Claim } from "./claim.js";
import type { Numbers } from "./numbers.js";
import { quantile, type Spread, spread } from "./statistics.js";

const MEMORY = { 1000: 90, 5000: 130 } as const;
const MOST = 5000;

export function kubernetes(numbers: Numbers): Claim[] {
	const of = (nodes: number, path: readonly string[], unit = 1): Spread | undefined =>
		numbers.single("kube", ["sizes", `${nodes}`, ...path], unit);
	const took = numbers.values("kube", ["took"]);
	const cold = [10, MOST].map((nodes) => of(nodes, ["cold"])?.median);
	const at = (what: string, share: number) => {
		const times = numbers.values("cni", ["times", what]);
		return times && spread([quantile(times, share)]);
	};
	const [busy, rest] = ["busy", "rest"].map((when) => of(MOST, [when, "cpu"], 0.01));
	const add = "ADD, 30 at once";
	return [
		...([1000, 5000] as const).map((nodes) => ({
			scenario: `API with ${nodes.toLocaleString("en")} Nodes and 100,000 Pods: agent's resident memory`,
			of: "MB",
			limit: MEMORY[nodes],
			digits: 0,
			measured: { "": of(nodes, ["resident"]) },
		})),
		{
			scenario: "20 heartbeats a second of 5,000 Nodes: agent's CPU beyond that at rest",
			of: "% of a core",
			limit: 2,
			digits: 1,
			measured: { "": busy && rest && spread([busy.median - rest.median]) },
			floors: { "at rest": rest },
		},
		{
			scenario: "a Node changes at the API, of 5,000: until the kernel has it, p99",
			of: "ms",
			limit: 100,
			digits: 0,
			measured: { "": took && spread([quantile(took, 0.99)]) },
		},
		{
			scenario: "first start until ready with 5,000 Nodes",
			of: "of that with 10",
			limit: 5,
			digits: 1,
			measured: {
				"": cold[0] === undefined ? undefined : spread([cold[1]! / cold[0]]),
			},
		},
		...(
			[
				["median", 0.5, 30],
				["p99", 0.99, 150],
			] as const
		).map(([name, share, limit]) => ({
			scenario: `CNI ADD, 30 at once, ${name}`,
			of: "ms",
			limit,
			digits: 0,
			measured: { "": at(add, share) },
			floors: { "the plugin alone": at("VERSION, 30 at once", share) },
		})),
		{
			scenario: "Deployment of 80 Pods on two Nodes: until all are Ready",
			of: "of the plain plugins",
			limit: 1.05,
			measured: {
				"": numbers.medians("deployment", ["fairway", "ready"], ["plain", "ready"]),
			},
		},
		{
			scenario: "such Deployments come and go: log lines of level warn or error",
			of: "lines",
			limit: 0,
			digits: 0,
			measured: { "": numbers.single("deployment", ["lines"], 1) },
		},
	];
}
