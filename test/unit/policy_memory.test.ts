/** What policies and rules are called, kept for an agent that starts while the cluster cannot be read. */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import t from "tap";
import type { PolicyStatus } from "../../src/api/messages/policies.js";
import { PolicyCounts, type RuleCounts } from "../../src/observe/policy_counts.js";
import { PolicyMemory, type PolicyNames } from "../../src/observe/policy_memory.js";
import type { RuleName } from "../../src/policy/policy_tables.js";

const directory = mkdtempSync(join(tmpdir(), "fairway-policies-"));
t.teardown(() => rmSync(directory, { recursive: true }));

const rule = (policies: string[]): RuleName => ({
	...{ direction: "ingress", kind: "NetworkPolicy", policies, rule: null },
	...{ tier: "NetworkPolicy", action: "deny" },
});
const policy: PolicyStatus = {
	...{ kind: "NetworkPolicy", namespace: "x", name: "a", tier: null, priority: null },
	...{ pods: { ingress: 1, egress: 0 }, rules: 0, isStaged: false, unusable: null },
	...{ allowed: { flows: 0 }, denied: { packets: 0 }, staged: { flows: 0 }, isFormer: false },
};
const summary = { enforced: 1, staged: 0, unusable: 0, pods: { open: 0, ruled: 1, notReady: 0 } };
const nothing: PolicyNames = { rules: new Map(), policies: [], summary: undefined };
const fail = (error: unknown) => t.fail(String(error));

t.test("what is in force is written a second after a change, and read again", async (t) => {
	mock.timers.enable({ apis: ["setTimeout"] });
	t.teardown(() => mock.timers.reset());
	const file = join(directory, "run", "policies.json");
	let names: PolicyNames = {
		...{ policies: [policy], summary },
		rules: new Map([[7, rule(["x/a", "x/b", "x/c", "x/d", "x/e"])]]),
	};
	const memory = new PolicyMemory(file, async () => names, fail);
	memory.changed();
	memory.changed();
	mock.timers.tick(999);
	t.notOk(existsSync(file));
	mock.timers.tick(1);
	await memory.close();
	t.strictSame(PolicyMemory.read(file), {
		...names,
		rules: new Map([[7, rule(["x/a", "x/b", "x/c", "x/d"])]]),
	});
	names = { ...names, policies: [] };
	memory.changed();
	mock.timers.tick(20_000);
	t.equal(PolicyMemory.read(file).policies.length, 1, "not twice in half a minute");
	await memory.close();
	t.equal(PolicyMemory.read(file).policies.length, 0, "what is left is written at the end");
	memory.forget();
	t.strictSame(PolicyMemory.read(file), nothing);
});

t.test("the file has a bound, and one that cannot be used counts as missing", async (t) => {
	const file = join(directory, "policies.json");
	const rules = new Map(Array.from({ length: 12_000 }, (_, id) => [id, rule(["x/a"])] as const));
	const policies = new Array<PolicyStatus>(3_000).fill(policy);
	const memory = new PolicyMemory(file, async () => ({ rules, policies, summary }), fail);
	memory.changed();
	await memory.close();
	const known = PolicyMemory.read(file);
	t.same([known.rules.size, known.policies.length], [10_000, 2_000]);
	t.ok(statSync(file).size < 3 << 20);
	for (const text of [
		"",
		"{",
		"[]",
		"null",
		'{"format":9,"rules":[],"policies":[]}',
		'{"format":1}',
	]) {
		writeFileSync(file, text);
		t.strictSame(PolicyMemory.read(file), nothing, text);
	}
});

t.test("what the rules of an earlier agent have counted is not counted again", async (t) => {
	const counts = new PolicyCounts();
	const rules = new Map([[7, rule(["x/a"])]]);
	const counted = (packets: number): [number, RuleCounts][] => [
		[7, { flows: 0, packets, staged: 0 }],
	];
	counts.begin(counted(5), rules);
	counts.take(counted(8), rules);
	t.match(counts.of("x/a"), { denied: 3 });
});
