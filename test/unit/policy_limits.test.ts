/** Limits of the policy compiler: what is over one, who it hurts, and what comes when there is room again. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type {
	NetworkPolicyObject,
	NetworkPolicyRule,
} from "../../src/cluster/network_policy_object.js";
import { Budget, LIMITS, type Limits } from "../../src/policy/limits.js";
import { Limit } from "../../src/tables/generated.js";
import { story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";
import { A, app, B, C, D, pod, policy, Stage } from "../tools/policy_stage.js";
import { runsOf } from "../tools/random_runs.js";

const ports = (first: number) => [{ protocol: 6, first, last: first }];
const from = (name: string, port = 80): NetworkPolicyRule => ({
	peers: [{ namespaces: [], pods: app(name) }],
	ports: ports(port),
});
const block = (i: number, except: string[] = []) => ({
	block: `100.${64 + (i >> 8)}.${i & 255}.0/24`,
	except,
});

t.test("what is in force fits twice into the kernel's tables, new beside old", async (t) => {
	t.ok(2 * LIMITS.policies <= Limit.POLICIES_MAX);
	t.ok(2 * LIMITS.verdicts <= Limit.POLICY_VERDICTS_MAX);
	t.ok(2 * LIMITS.portSets <= Limit.PORT_SETS_MAX);
	t.ok(LIMITS.rules < Limit.POLICY_RULES_MAX);
	t.ok(LIMITS.prefixes <= Limit.BLOCKS_MAX);
	t.ok(LIMITS.identities <= Limit.IDENTITIES_MAX);
	t.equal(LIMITS.ranges, Limit.PORT_SET_SEGMENTS * Limit.PORT_SET_PARTS);
});

t.test("ids that are used again stay in force", async (t) => {
	const stage = new Stage("closed", { limits: { policies: 2, portSets: 2 } });
	stage.set("Pod", pod("x/a", A), pod("x/c", C));
	stage.attach(["x/a", A]);
	for (let round = 1; round < 50; round++) {
		stage.set("NetworkPolicy", policy("p", { ingress: [from("c", round)] }));
		// The last one's removal, and its id.
		stage.set("Pod");
		stage.set("Pod");
		t.equal(stage.ingress(A, C, round), "allow", `round ${round}`);
	}
});

/** Each needs more than the limit; `huge` comes after a policy that allows from Pods "c". */
const TABLE: { limit: Partial<Limits>; problem: string; huge: Partial<NetworkPolicyObject> }[] = [
	{
		limit: { rulesOfPod: 3 },
		problem: "expected at most 3 rules, got 4",
		huge: { ingress: [from("d"), from("d"), from("d")] },
	},
	{
		limit: { rules: 6 },
		problem: "expected at most 3 rules of namespace x on this Node, got 6",
		huge: { ingress: [from("d"), from("d"), from("d")] },
	},
	{
		limit: { atoms: 4 },
		problem: "expected at most 2 different peers of namespace x on this Node, got 4",
		huge: { ingress: [from("d"), from("e"), from("f")] },
	},
	{
		limit: { prefixes: 4 },
		problem: "expected at most 2 prefixes of namespace x on this Node, got 3",
		huge: {
			ingress: [
				{ peers: [block(1, ["100.64.1.0/30", "100.64.1.8/30"])], ports: undefined },
				from("d"),
			],
		},
	},
	{
		limit: { policies: 1 },
		problem: "expected at most 0 choices of policies of namespace x on this Node, got 1",
		huge: { ingress: [from("d")] },
	},
	{
		limit: { portSets: 2 },
		problem: "expected at most 1 port sets of namespace x on this Node, got 2",
		huge: { ingress: [from("d", 81), from("c", 82)] },
	},
	{
		limit: { ranges: 4 },
		problem: "expected at most 4 ranges of ports, got 5",
		huge: { ingress: [from("d", 81), from("d", 90)] },
	},
	{
		limit: { verdicts: 2 },
		problem: "expected at most 1 verdicts of namespace x on this Node, got 2",
		huge: { ingress: [from("d", 81)] },
	},
];

for (const { limit, problem, huge } of TABLE)
	t.test(
		`over the limit of ${Object.keys(limit)} the whole last policy stays, and a new Pod stays closed (cilium#8060, cilium#28337)`,
		async (t) => {
			const stage = new Stage("closed", { limits: limit });
			stage.set("Pod", pod("x/a", A), pod("x/b", B), pod("x/c", C), pod("x/d", D));
			const first = policy("p", { ingress: [from("c")] });
			if (limit.policies !== 1) {
				stage.set("NetworkPolicy", first);
				stage.attach(["x/a", A]);
				t.equal(stage.ingress(A, C), "allow");
			}
			const { problems } = stage.set("NetworkPolicy", policy("q", huge));
			if (limit.policies !== 1) {
				t.strictSame(problems, [`Cannot enforce the ingress policies of x/a: ${problem}`]);
				t.equal(stage.ingress(A, C), "allow", "as before");
				t.equal(stage.ingress(A, D), "deny", "as before");
			}
			const later = stage.attach(["x/a", A], ["x/b", B]);
			t.match(later.problems, [`Cannot enforce the ingress policies of x/`], "and again");
			t.equal(stage.ingress(B, C), "policy_not_ready", "a new Pod");
			stage.remove("NetworkPolicy", policy("q", huge));
			if (limit.policies === 1) return;
			stage.set("Pod");
			t.strictSame(stage.set("Pod").problems, []);
			t.equal(stage.ingress(B, C), "allow", "when there is room again");
		},
	);

const HOGS: [keyof Limits, number, (i: number) => Partial<NetworkPolicyObject>][] = [
	["rules", 1280, () => ({ ingress: [from("c"), from("c")] })],
	["atoms", 512, (i) => ({ ingress: [from(`c${i}`)] })],
	["prefixes", 512, (i) => ({ egress: [{ peers: [block(i)], ports: undefined }] })],
	["portSets", 128, (i) => ({ ingress: [from(`h${i}`, i + 1)] })],
];
for (const [resource, limit, one] of HOGS)
	t.test(
		`a namespace that takes all ${resource} that it can get leaves others enough`,
		async (t) => {
			const stage = new Stage("closed", { limits: { [resource]: limit } });
			stage.set("Pod", pod("x/a", A), pod("y/b", B), pod("x/c", C), pod("x/d", D));
			// With a class, and so a verdict, of their own.
			const others = Array.from({ length: 130 }, (_, i) => pod(`x/h${i}`, `10.244.2.${i + 10}`));
			stage.set("Pod", ...others);
			stage.attach(["x/a", A], ["y/b", B]);
			let refused = 0;
			for (let i = 0; i < limit && refused < 3; i++)
				if (stage.set("NetworkPolicy", policy(`p${i}`, one(i))).problems.length > 0) refused++;
			t.equal(refused, 3, "it takes what it can get");
			// What the last changes left is removed.
			for (let round = 0; round < 3; round++) stage.set("Pod");
			const { problems } = stage.set("NetworkPolicy", {
				...policy("mine", {
					ingress: [from("c", 8080)],
					egress: [{ peers: [block(1)], ports: undefined }],
				}),
				namespace: "y",
			});
			t.ok(problems.every((text) => text.includes("x/a")));
			t.equal(stage.ingress(B, C, 8080), "allow");
			t.equal(stage.ingress(B, D, 8080), "deny");
		},
	);

t.test("Pods for whose classes there is no room are denied, and no others", async (t) => {
	const stage = new Stage("closed", { limits: { verdicts: 128 } });
	stage.set("Pod", pod("x/a", A), pod("y/b", B), pod("y/c", C));
	stage.attach(["x/a", A], ["y/b", B]);
	const many = Array.from({ length: 100 }, (_, i) => i);
	// Each Pod of x has a class of its own, with a verdict of its own.
	stage.set("NetworkPolicy", policy("many", { ingress: many.map((i) => from(`h${i}`, i + 1)) }));
	stage.set("NetworkPolicy", { ...policy("mine", { ingress: [from("c")] }), namespace: "y" });
	const hogs = many.map((i) => pod(`x/h${i}`, `10.244.2.${i + 10}`));
	const { problems } = stage.set("Pod", ...hogs);
	t.match(problems, [/^Cannot tell the Pods of namespace x apart: expected at most \d+ verdicts/]);
	t.equal(stage.ingress(A, "10.244.2.10", 1), "allow", "as long as there was room");
	t.equal(stage.ingress(A, "10.244.2.109", 100), "policy_incomplete");
	t.equal(stage.ingress(B, C), "allow");
	stage.set("Pod", pod("y/c2", D, { labels: ["app", "c"] }));
	t.equal(stage.ingress(B, D), "allow", "a new one of another namespace");
	t.match(stage.set("Pod").problems, [/^Cannot tell the Pods of namespace x apart/], "and still");
	stage.set("NetworkPolicy", policy("many", { ingress: [from("h99", 100)] }));
	for (let round = 0; round < 4; round++) stage.set("Pod");
	t.equal(stage.ingress(A, "10.244.2.109", 100), "allow", "when there is room again");
	t.strictSame(stage.set("Pod").problems, []);
});

t.test("where most classes have one verdict, the others have entries", async (t) => {
	const stage = new Stage();
	stage.set("Pod", pod("x/a", A));
	stage.attach(["x/a", A]);
	const apps = Array.from({ length: 60 }, (_, i) => i);
	const every = { peers: [{ namespaces: [], pods: [] }], ports: ports(80) };
	const some = apps.map((i) => from(`h${i}`, 81));
	stage.set("NetworkPolicy", { ...policy("classes", { ingress: some }), namespace: "y" });
	stage.attach(["x/a", A], ["y/b", B]);
	stage.set("Pod", pod("y/b", B));
	stage.set("NetworkPolicy", policy("every", { ingress: [every] }));
	stage.set("Pod", ...apps.map((i) => pod(`x/h${i}`, `10.244.2.${i + 10}`)));
	t.ok(stage.evaluator.tables.policyVerdicts.size >= 120);
	stage.set("NetworkPolicy", policy("another", { ingress: [] }));
	for (let round = 0; round < 3; round++) stage.set("Pod");
	t.ok(
		stage.evaluator.tables.policyVerdicts.size < 70,
		`${stage.evaluator.tables.policyVerdicts.size}`,
	);
	t.equal(stage.ingress(A, "10.244.2.20", 80), "allow");
	t.equal(stage.ingress(A, "8.8.8.8", 80), "deny");
	stage.set("Pod", pod("z/new", C, { labels: [] }));
	t.equal(stage.ingress(A, C, 80), "allow");
	t.equal(stage.ingress(A, C, 81), "deny");
});

const numRuns = runsOf("POLICY_RUNS", 300);

t.test("with little room the tables are exact whenever nothing is reported", async (t) => {
	let [exact, full] = [0, 0];
	const few = { policies: 12, verdicts: 40, portSets: 24, rules: 40, atoms: 24, prefixes: 24 };
	fc.assert(
		fc.property(story, (told) => {
			const site = new PolicySite(undefined, 0, undefined, undefined, few);
			const check = (problems: readonly string[]) => {
				const { policyVerdicts, portSets, policies } = site.evaluator.tables;
				assert.ok(policyVerdicts.size <= 2 * few.verdicts, "verdicts");
				assert.ok(portSets.size <= 2 * few.portSets, "port sets");
				assert.ok(policies.size <= 2 * few.policies, "policies");
				if (problems.length > 0) full++;
				else for (const flow of told.flows) site.check(flow);
				if (problems.length === 0) exact++;
			};
			const take = ({ writes, problems }: ReturnType<PolicySite["compile"]>) => {
				for (const write of writes) {
					site.take([write]);
					assert.ok(site.evaluator.tables.policyVerdicts.size <= 2 * few.verdicts, "at once");
				}
				check(problems);
			};
			take(site.compile(told.start));
			for (const change of told.changes) take(site.compile([change]));
			for (const change of told.start)
				if (change.kind === "NetworkPolicy" || change.kind === "ClusterNetworkPolicy")
					take(site.compile([{ ...change, gone: true }]));
			for (const change of told.changes)
				if (change.kind === "NetworkPolicy" || change.kind === "ClusterNetworkPolicy")
					take(site.compile([{ ...change, gone: true }]));
			for (let round = 0; round < 4; round++) site.take(site.compile([]).writes);
			const { problems } = site.compile([]);
			assert.deepEqual(problems, [], "nothing is left to report");
			for (const flow of told.flows) site.check(flow);
		}),
		{ numRuns },
	);
	t.ok(exact > numRuns / 3 && full > numRuns / 3, `${exact} exact, ${full} full`);
});

t.test("shares: whatever others took, each namespace gets its share", async () => {
	fc.assert(
		fc.property(
			fc.array(fc.tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: -300, max: 300 })), {
				maxLength: 400,
			}),
			(steps) => {
				const budget = new Budget("things", 1280);
				const used = new Map<string, number>();
				for (const [owner, count] of steps) {
					const [name, has] = [`ns${owner}`, used.get(`ns${owner}`) ?? 0];
					if (count > 0 && budget.problem(name, count) !== undefined) {
						assert.ok(has + count > 10, "more than its share");
						continue;
					}
					const by = Math.max(-has, count);
					budget.take(name, by);
					used.set(name, has + by);
					assert.ok(budget.total <= 1280);
				}
				assert.equal(
					budget.total,
					[...used.values()].reduce((a, b) => a + b, 0),
				);
			},
		),
	);
});
