/** Targets of network policy (bench/policy.ts). Pure. */
import type { Claim } from "./claim.js";
import type { Numbers } from "./numbers.js";
import { quantile, type Spread, spread } from "./statistics.js";

const MANY = 10_000;

export function networkPolicy(numbers: Numbers): Claim[] {
	const halves = (what: string, name: string, other: string) =>
		Object.fromEntries(
			[
				["egress", "out"],
				["ingress", "in"],
			].map(([title, half]) => [
				title,
				numbers.cpu("policy", `${what} ${half} ${name}`, `${what} ${half} ${other}`),
			]),
		);
	const ratio = (
		scenario: string,
		of: string,
		limit: number,
		measured: Claim["measured"],
	): Claim => ({
		...{ scenario, of, limit, measured },
	});
	const p99 = (path: readonly string[], bench = "policy"): Spread | undefined => {
		const values = numbers.values(bench, path);
		return values && spread([quantile(values, 0.99)]);
	};
	const within = (scenario: string, path: readonly string[], limit: number): Claim => ({
		...{ scenario: `${scenario}: until it is in force, p99`, of: "ms", limit, digits: 0 },
		measured: { "": p99(path) },
	});
	const scale = `with 10,000 policies and 100,000 Pods`;
	return [
		ratio(
			"network policy, 10,000 rules, established: CPU",
			"of none",
			1.01,
			halves("established", `${MANY} rules`, "none"),
		),
		ratio(
			"network policy, new flow, a Pod as peer: CPU",
			"of none",
			1.15,
			halves("new", "10 policies", "none"),
		),
		ratio(
			"network policy, new flow, a block among 10,000: CPU",
			"of none",
			1.25,
			halves("new", `block among ${MANY}`, "none"),
		),
		ratio(
			"10,000 policies, new flow: CPU",
			"of 10 policies",
			1.05,
			halves("new", `${MANY} policies`, "10 policies"),
		),
		ratio(
			"10,000 rules of a Pod, new flow: CPU",
			"of 10 policies",
			1.1,
			halves("new", `${MANY} rules`, "10 policies"),
		),
		ratio("100,000 Pods, new flow to one of them: CPU", "of 100 Pods", 1.35, {
			egress: numbers.cpu("policy", "new to 100000 Pods", "new to 100 Pods"),
		}),
		ratio(
			"SYNs that network policy denies: CPU",
			"of new flows that it allows",
			0.8,
			Object.fromEntries(
				["out", "in"].map((half) => [
					half === "out" ? "egress" : "ingress",
					numbers.cpuSent("policy", `SYN ${half} denied`, `SYN ${half} allowed`),
				]),
			),
		),
		within(`a policy changes, ${scale}`, ["changes", "policy"], 100),
		within(`a Pod elsewhere comes or goes, ${scale}`, ["changes", "pod"], 50),
		within(`a Namespace's label moves 10,000 Pods, ${scale}`, ["changes", "namespace"], 250),
		{
			...{
				scenario: "a policy is applied in a cluster of 50 Nodes: until each has it, p99",
				of: "ms",
			},
			...{ limit: 300, digits: 0 },
			measured: { "": p99(["each"], "apply") },
		},
		{
			...{ scenario: "a policy denies 10,000 running flows: last packet after", of: "ms" },
			...{ limit: 200, digits: 0 },
			measured: { "": numbers.single("policy", ["flows", "cut", "times"], 1) },
		},
		{
			...{ scenario: "all of 100,000 flows are judged anew: share of a CPU's second", of: "%" },
			...{ limit: 5, digits: 1 },
			measured: { "": numbers.single("policy", ["flows", "epoch", "each"], 100) },
		},
		{
			...{ scenario: `50 Pod events/s, ${scale}: agent's CPU`, of: "of a core" },
			...{ limit: 0.03, digits: 3 },
			measured: { "": numbers.single("policy", ["changes", "agent", "events"], 1) },
		},
		{
			...{ scenario: `agent ${scale}: resident memory`, of: "MB", limit: 150, digits: 0 },
			// From an API server: what a directory says is kept besides.
			measured: { "": numbers.single("kube", ["policies", "resident"], 1) },
		},
	];
}
