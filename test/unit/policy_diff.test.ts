/** `fairway policy diff`: from the request to what is printed. */
import t from "tap";
import { RequestError } from "../../src/api/server.js";
import { diffText, policyDiffCommand } from "../../src/cli/policy.js";
import { mapping } from "../../src/cluster/fields.js";
import { kindOf, readObject } from "../../src/cluster/kinds.js";
import { Store } from "../../src/cluster/store.js";
import { readManifestObjects } from "../../src/policy/manifests.js";
import { type PolicyDiffContext, policyDiff } from "../../src/report/policy_diff.js";

function objectsOf(text: string): unknown[] {
	const read = readManifestObjects(text);
	if ("fault" in read) throw new Error(read.fault);
	return read.objects;
}

const CLUSTER = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: a, labels: {app: a}}
spec: {nodeName: n1}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: b}
spec: {nodeName: n2}
status: {podIPs: [{ip: 10.244.2.3}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: quiet, annotations: {fairway.dev/audit: "true"}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: web, uid: u1}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]}
`;

function contextOf(text = CLUSTER, unsynced: string[] = []): PolicyDiffContext {
	const store = new Store();
	store.update((writer) => {
		for (const object of objectsOf(text)) {
			const reading = readObject(kindOf(mapping(object))!, object);
			if ("record" in reading) writer.put(reading.kind, reading.key, reading.record);
		}
	});
	const flow = { source: "10.244.2.3", destination: "10.244.1.2", protocol: 6 };
	return {
		...{ store, nodeName: "n1", knowsAllPods: () => true },
		// The CNI's address, which the object does not have yet.
		endpoints: [{ namespace: "x", name: "a", addresses: ["10.244.1.2"] }],
		isSynced: (kind) => !unsynced.includes(kind),
		async *liveFlows() {
			yield [{ ...flow, port: 80 }];
			yield [
				{ ...flow, port: 81 },
				{ ...flow, port: 81, source: "8.8.8.8" },
			];
		},
	};
}

const policy = (spec: string, name = "web", namespace = "x") => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: ${namespace}, name: ${name}}
spec: ${spec}
`;

t.test(
	"a proposed policy takes the place of that of its name; live flows are counted",
	async (t) => {
		const proposed = policy(
			"{podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 81}]}]}",
		);
		const answer = await policyDiff({ objects: objectsOf(proposed) }, contextOf());
		const ends = { from: "x/b", to: "x/a", protocol: "tcp" };
		t.strictSame(answer, {
			opened: [
				{ ...ends, port: 81, flows: 1 },
				{ ...ends, from: "8.8.8.8", port: 81, flows: 1 },
			],
			closed: [{ ...ends, port: 80, flows: 1 }],
			...{ isCut: false, liveFlows: { opened: 2, closed: 1 }, staged: [], pods: "all" },
		});
		t.equal(
			diffText(answer, 1, 80),
			`Closed (1 live flow of this Node would be cut)
  FROM  TO   PORTS   LIVE FLOWS
  x/b   x/a  80/tcp           1

Opened (2 live flows of this Node would go on)
  FROM  TO   PORTS   LIVE FLOWS
  x/b   x/a  81/tcp           1
  and 1 more (-o wide)
`,
		);
	},
);

t.test("a policy that would go opens and closes what it has closed and opened", async (t) => {
	const answer = await policyDiff({ objects: [], deleted: ["x/web"] }, contextOf());
	t.match(answer, { closed: [], liveFlows: { opened: 2, closed: 0 } });
	t.match(
		answer.opened.map(({ from, to, port, protocol }) => `${from} ${to} ${port} ${protocol}`),
		[
			...["x/b x/a 0-79 tcp", "x/b x/a 81-65535 tcp", "x/b x/a null udp", "x/b x/a null sctp"],
			...["x/b x/a null other", "8.8.8.8 x/a 81 tcp"],
		],
	);
	const moved = { objects: objectsOf(policy("{podSelector: {}}", "all")), deleted: ["x/web"] };
	t.match(
		(await policyDiff(moved, contextOf())).closed,
		[{ from: "x/b", to: "x/a", port: 80 }],
		"one takes the place of another",
	);
	const gone = [{ objects: [], deleted: ["x/none", "none"] }, contextOf()] as const;
	await t.rejects(policyDiff(...gone), {
		message:
			"Cannot compare policies: expected policies of this cluster to delete, got x/none, none",
	});
	await t.rejects(policyDiff({ objects: [], deleted: "x/web" }, contextOf()), {
		message: /expected names of policies as those to delete/,
	});
	await t.rejects(policyDiffCommand(undefined, { runDir: "/none", output: "text" }), {
		name: "UsageError",
	});
	const bad = { runDir: "/none", output: "text", delete: ["a/b/c"] } as const;
	await t.rejects(policyDiffCommand(undefined, bad), { name: "UsageError" });
});

t.test("a policy that is in force already, or staged, changes nothing", async (t) => {
	const same = policy("{podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]}");
	const staged = policy("{podSelector: {}}", "p", "quiet");
	const objects = [...objectsOf(same), ...objectsOf(staged)];
	const answer = await policyDiff({ objects }, { ...contextOf(), knowsAllPods: () => false });
	t.match(answer, { opened: [], closed: [], staged: ["quiet/p"], pods: "local" });
	t.equal(
		diffText({ ...answer, isCut: true }, 1, 80),
		`Closed: nothing

Opened: nothing

Staged (fairway.dev/audit), so nothing changes for them: quiet/p.

This Node knows its own Pods alone, because no policy in force speaks of Pods: other pairs of Pods are not compared.

There is more than is listed; flows are counted in full.
`,
	);
});

t.test(
	"policies that cannot be used, no policies, and a cluster not yet seen are refused",
	async (t) => {
		const refused = async (objects: unknown, context = contextOf()) => {
			try {
				await policyDiff({ objects }, context);
			} catch (error) {
				if (error instanceof RequestError) return `${error.status} ${error.message}`;
			}
			return "taken";
		};
		t.equal(
			await refused(objectsOf(policy("{policyTypes: [In]}"))),
			'422 Cannot compare policies: NetworkPolicy x/web: expected Ingress or Egress as spec.policyTypes[0], got "In"',
		);
		t.equal(
			await refused([{ kind: "Pod", metadata: { name: "a" } }, null]),
			"422 Cannot compare policies: expected NetworkPolicies or ClusterNetworkPolicies, got none",
		);
		t.equal(await refused("x"), "400 Cannot compare policies: expected a list of objects");
		t.equal(
			await refused([], contextOf(CLUSTER, ["Pod", "Node"])),
			"503 Cannot compare policies: not yet seen: Node, Pod",
		);
	},
);
