/** `fairway policies`: rows from the objects, the local Pods and what rules have counted. */
import t from "tap";
import { policiesRequest, policiesText } from "../../src/cli/policies.js";
import { mapping } from "../../src/cluster/fields.js";
import { kindOf, readObject } from "../../src/cluster/kinds.js";
import { Store } from "../../src/cluster/store.js";
import { atOnce } from "../../src/loop/turns.js";
import { PolicyCounts } from "../../src/observe/policy_counts.js";
import { readManifestObjects } from "../../src/policy/manifests.js";
import type { RuleName } from "../../src/policy/policy_tables.js";
import { formerRows, policiesSummary, policyRows, readPolicy } from "../../src/report/policies.js";

const OBJECTS = `
apiVersion: v1
kind: Namespace
metadata: {name: y, annotations: {fairway.dev/audit: "true"}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: web}
spec: {podSelector: {}, ingress: [{}, {}], policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: y, name: quiet}
spec: {podSelector: {}}
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: base}
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]}
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: bad}
spec: {tier: Admin, priority: 2000, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
`;

function storeOf(text: string): Store {
	const read = readManifestObjects(text);
	if ("fault" in read) throw new Error(read.fault);
	const store = new Store();
	store.update((writer) => {
		for (const object of read.objects) {
			const kind = kindOf(mapping(object));
			if (kind === undefined) continue;
			const reading = readObject(kind, object);
			if ("record" in reading) writer.put(reading.kind, reading.key, reading.record);
			else if ("instead" in reading && reading.instead !== undefined)
				writer.put(reading.kind, reading.key, reading.instead);
		}
	});
	return store;
}

const pod = (
	networkPolicies: string[],
	clusterPolicies: string[],
	ids = { egress: 2, ingress: 1 },
) => ({
	...{ networkPolicies: new Set(networkPolicies), clusterPolicies: new Set(clusterPolicies) },
	...ids,
});
const LOCAL = [
	pod(["x/web"], ["base", "bad"]),
	pod(["x/web"], ["base"]),
	pod(["y/quiet", "x/gone"], [], { egress: 1, ingress: 1 }),
	pod([], ["bad"], { egress: 1, ingress: 0 }),
];

const isolation: RuleName = {
	...{ direction: "ingress", kind: "NetworkPolicy", policies: ["x/web", "x/zebra"], rule: null },
	...{ tier: "NetworkPolicy", action: "deny" },
};
const allowing: RuleName = { ...isolation, policies: ["x/web"], rule: 1, action: "allow" };
const egress: RuleName = { ...isolation, direction: "egress" };

t.test("a row for each policy that selects a local Pod", async (t) => {
	const store = storeOf(OBJECTS);
	const counts = new PolicyCounts();
	counts.take(
		[
			[1, { flows: 0, packets: 5, staged: 0 }],
			[2, { flows: 7n, packets: 0n, staged: 0n }],
			[3, { flows: 0, packets: 2, staged: 4 }],
		],
		new Map([
			[1, isolation],
			[2, allowing],
			[3, egress],
		]),
	);
	const context = { store, local: LOCAL, totals: (policy: string) => counts.of(policy) };
	const rows = atOnce(policyRows(undefined, context));
	const nothing = { allowed: { flows: 0 }, denied: { packets: 0 }, staged: { flows: 0 } };
	t.strictSame(rows, [
		{
			...{ kind: "NetworkPolicy", namespace: "x", name: "web", tier: null, priority: null },
			...{ pods: { ingress: 2, egress: 2 }, rules: 2 },
			...{ allowed: { flows: 7 }, denied: { packets: 7 }, staged: { flows: 4 } },
			...{ isStaged: false, unusable: null, isFormer: false },
		},
		{
			...{ kind: "NetworkPolicy", namespace: "y", name: "quiet", tier: null, priority: null },
			...{
				pods: { ingress: 1, egress: 0 },
				rules: 0,
				...nothing,
				isStaged: true,
				unusable: null,
				isFormer: false,
			},
		},
		{
			...{ kind: "ClusterNetworkPolicy", namespace: null, name: "bad", tier: "Admin", priority: 0 },
			...{ pods: { ingress: 2, egress: 0 }, rules: 0, ...nothing, isStaged: false },
			unusable: "expected 0 to 1000 as spec.priority, got 2000",
			isFormer: false,
		},
		{
			...{ kind: "ClusterNetworkPolicy", namespace: null, name: "base", tier: "Baseline" },
			...{ priority: 1, pods: { ingress: 0, egress: 2 }, rules: 1, ...nothing },
			...{ isStaged: false, unusable: null, isFormer: false },
		},
	]);
	t.match(atOnce(policyRows("base", context)), [{ name: "base" }]);
	t.throws(() => atOnce(policyRows("x/none", context)), {
		status: 404,
		message: /policy x\/none: expected/,
	});
	t.equal(
		policiesText(rows, undefined),
		`POLICY   TIER        INGRESS PODS  EGRESS PODS  RULES  FLOWS ALLOWED  PACKETS DENIED  STATE
x/web    -                      2            2      2              7               7  enforced
y/quiet  -                      1            0      0              0               0  staged: 0 flows would change
bad      Admin 0                2            0      0              0               0  unusable: expected 0 to 1000 as spec.priority, got 2000
base     Baseline 1             0            2      1              0               0  enforced
`,
	);
	const former = formerRows("base", rows, () => ({ flows: 3, denied: 1, staged: 0 }));
	t.match(former, [{ name: "base", allowed: { flows: 3 }, isFormer: true }]);
	t.match(policiesText(former, undefined), / 1 {2}enforced, as an earlier agent left it\n/);
	t.throws(() => formerRows("x/none", rows, counts.of), { message: /policy x\/none/ });
	t.strictSame(policiesSummary(LOCAL, store), {
		...{ enforced: 2, staged: 1, unusable: 1, pods: { open: 1, ruled: 2, notReady: 1 } },
	});
});

t.test("names of policies, as a user and as a client give them", async (t) => {
	t.strictSame(policiesRequest("x/web"), { namespace: "x", name: "web" });
	t.strictSame(policiesRequest("base"), { name: "base" });
	t.throws(() => policiesRequest("a/b/c"), /expected NAMESPACE\/NAME, or the name/);
	t.equal(readPolicy({ name: "base" }), "base");
	t.equal(readPolicy({ namespace: "x", name: "web" }), "x/web");
	t.equal(readPolicy(undefined), undefined);
	t.throws(() => readPolicy({}), { status: 400, message: /expected a name, got none/ });
});

t.test("totals of policies only grow while rules come, go and get each other's ids", async (t) => {
	const counts = new PolicyCounts(2);
	const take = (name: RuleName, packets: number, id = 1) =>
		counts.take([[id, { flows: 0, packets, staged: 0 }]], new Map([[id, name]]));
	take(isolation, 5);
	take(isolation, 8);
	t.equal(counts.of("x/web").denied, 8);
	take({ ...isolation }, 2);
	t.equal(counts.of("x/web").denied, 10, "the id has another rule, whose counter began anew");
	take({ ...isolation, policies: ["x/other"] }, 3);
	t.equal(counts.of("x/other").denied, 3);
	take({ ...isolation, policies: ["x/third"] }, 4);
	take({ ...isolation, policies: ["x/fourth"] }, 6);
	t.strictSame(
		[...counts.totals()].map(({ policy, denied }) => [policy, denied]),
		[
			["x/web", 10],
			["x/other", 3],
			["", 10],
		],
		"beyond a number of policies the others are counted together",
	);
	counts.count(9, { flows: 1, packets: 1, staged: 1 }, undefined);
	const staged = new PolicyCounts();
	staged.take([[1, { flows: 0, packets: 0, staged: 2 }]], new Map([[1, isolation]]));
	staged.take([[2, { flows: 0, packets: 0, staged: 3 }]], new Map([[2, allowing]]));
	t.match([...staged.totals()], [{ wouldDeny: 2, wouldAllow: 3 }]);
});
