/** `fairway policy check`, and what a diff of policies says. */
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import t from "tap";
import type { PodObject } from "../../src/cluster/pod_object.js";
import { atOnce } from "../../src/loop/turns.js";
import { checkPolicies } from "../../src/policy/check.js";
import { diffPolicies, type PolicyDiff } from "../../src/policy/diff.js";
import { interpret, nameOf, podAt } from "../../src/policy/interpreter.js";
import { clusterOf, readManifestObjects } from "../../src/policy/manifests.js";
import { Objects, story } from "../tools/policy_clusters.js";

const PODS = `
apiVersion: v1
kind: PodList
items:
  - metadata: {namespace: x, name: a, labels: {app: a}}
    spec: {nodeName: n1}
    status: {podIP: 10.244.1.2}
  - metadata: {namespace: y, name: b, labels: {app: b}}
    spec: {nodeName: n1, containers: [{ports: [{name: web, containerPort: 8080}]}]}
    status: {podIP: 10.244.1.3}
`;

function objectsOf(text: string): unknown[] {
	const read = readManifestObjects(text);
	if ("fault" in read) throw new Error(read.fault);
	return read.objects;
}

function findings(policies: string): string[] {
	const [pods, own] = [objectsOf(PODS), objectsOf(policies)];
	return checkPolicies(own, clusterOf([...pods, ...own])).map(
		({ policy, kind, where, message }) => `${policy}: ${kind} ${where}: ${message}`,
	);
}

t.test("what is worth a second look in policies", async (t) => {
	const policy = (spec: string) => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: p}
spec: ${spec}`;
	const rows: [spec: string, expected: RegExp[]][] = [
		["{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}", []],
		[
			"{podSelector: {matchLabels: {app: b}}}",
			[/selectsNothing spec.podSelector: no Pod of namespace x matches/],
		],
		[
			"{podSelector: {}, ingress: [{from: [{podSelector: {}}, {podSelector: {matchLabels: {app: z}}}]}]}",
			[/selectsNothing spec.ingress\[0\].from\[1\]/],
		],
		[
			"{podSelector: {}, policyTypes: [Ingress], egress: [{}]}",
			[/noEffect spec.egress: spec.policyTypes does not name Egress/],
		],
		[
			"{podSelector: {}, ingress: [{ports: [{port: 80}]}, {}]}",
			[/noEffect spec.ingress\[0\]: spec.ingress\[1\] already says all of it/],
		],
		[
			"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}, {from: [{ipBlock: {cidr: 10.1.0.0/16}}], ports: [{port: 80}]}]}",
			[/noEffect spec.ingress\[1\]: spec.ingress\[0\]/],
		],
		[
			"{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}",
			[/noDns spec.egress: .*UDP port 53/],
		],
		[
			"{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
			[],
		],
		[
			"{podSelector: {}, ingres: [], ingress: [{form: [], ports: [{port: 80, endport: 90}]}]}",
			[
				/unknownField spec.ingres:/,
				/unknownField spec.ingress\[0\].form:/,
				/unknownField spec.ingress\[0\].ports\[0\].endport:/,
			],
		],
		[
			"{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}",
			[/unusable : expected TCP, UDP or SCTP/],
		],
	];
	for (const [spec, expected] of rows) {
		const found = findings(policy(spec));
		t.equal(found.length, expected.length, `${spec}: ${found}`);
		for (const [i, one] of expected.entries()) t.match(found[i], one);
	}
	t.match(
		findings(`
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: c}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: z}}}
  ingress:
    - {action: Deny, from: [{namespaces: {}}]}
    - {action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}], protocols: [{tcp: {}}]}
    - {action: Accept, from: [{robots: {}}]}
`),
		[
			/unknownField spec.ingress\[2\].from\[0\].robots/,
			/selectsNothing spec.subject/,
			/noEffect spec.ingress\[2\]: it has a peer .* matches nothing/,
			/noEffect spec.ingress\[1\]: spec.ingress\[0\] already says all of it/,
		],
	);
});

t.test("policies of other versions, and annotations that do not stage", async (t) => {
	t.match(
		findings(`
apiVersion: networking.k8s.io/v1beta1
kind: NetworkPolicy
metadata: {namespace: x, name: p}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: a}
---
apiVersion: crd.antrea.io/v1beta1
kind: NetworkPolicy
metadata: {name: others}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: y, name: q, annotations: {fairway.dev/audit: "yes"}}
spec: {podSelector: {}, ingress: [{}]}
`),
		[
			/unusable : expected networking.k8s.io\/v1 as apiVersion, got networking.k8s.io\/v1beta1/,
			/unusable : expected a ClusterNetworkPolicy, which has replaced this kind/,
			/noEffect metadata.annotations\["fairway.dev\/audit"\]: only "true" stages .* with "yes" it is enforced/,
		],
	);
});

t.test("the command prints what it found; status 1 where a policy cannot be used", async (t) => {
	const { policyCheckCommand } = await import("../../src/cli/policy.js");
	const directory = mkdtempSync(join(tmpdir(), "fairway-policy-"));
	const file = join(directory, "p.yaml");
	const printed = t.capture(process.stdout, "write");
	writeFileSync(
		file,
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n",
	);
	const good = await policyCheckCommand(file, { output: "text" });
	writeFileSync(
		file,
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {policyTypes: [In]}\n",
	);
	const bad = await policyCheckCommand(file, { output: "text", manifests: directory });
	const texts = printed.args().flat().join("");
	printed.restore();
	t.same([good, bad], [0, 1]);
	t.match(texts, /p.yaml: nothing to remark\n/);
	t.match(
		texts,
		/NetworkPolicy default\/p: cannot be used: expected Ingress or Egress as spec.policyTypes\[0\], got "In"\n/,
	);
	writeFileSync(file, "a: [");
	await t.rejects(policyCheckCommand(`${file}.none`, { output: "text" }), {
		message: /^Cannot read .*\.none: /,
	});
	await t.rejects(
		policyCheckCommand(file, { output: "text" }),
		/Cannot read .*p.yaml:\d+:\d+: expected YAML/,
	);
});

t.test(
	"a diff names the pairs of Pods, the ports and the live flows that open and close",
	async (t) => {
		const before = clusterOf(objectsOf(PODS));
		const [policy] = clusterOf(
			objectsOf(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: y, name: p}
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: web}]}]}
`),
		).policies;
		const after = { ...before, policies: [policy!] };
		const flow = { source: "10.244.1.2", destination: "10.244.1.3", protocol: 6, port: 81 };
		const flows = [flow, flow, { ...flow, port: 8080 }, { ...flow, source: "8.8.8.8" }];
		const ends = { from: "x/a", to: "y/b" };
		const closed = [
			{ ...ends, port: "0-8079", protocol: "tcp", flows: 2 },
			{ ...ends, port: "8081-65535", protocol: "tcp", flows: 0 },
			{ ...ends, port: null, protocol: "udp", flows: 0 },
			{ ...ends, port: null, protocol: "sctp", flows: 0 },
			{ ...ends, port: null, protocol: "other", flows: 0 },
			{ from: "8.8.8.8", to: "y/b", port: 81, protocol: "tcp", flows: 1 },
		];
		t.strictSame(atOnce(diffPolicies(before, before, after, flows)), {
			...{ opened: [], closed, isCut: false, flows: { opened: 0, closed: 3 } },
		});
		t.match(atOnce(diffPolicies(after, after, before)), {
			opened: closed.slice(0, 5).map((row) => ({ ...row, flows: 0 })),
			closed: [],
		});
		t.strictSame(atOnce(diffPolicies(before, before, before, flows)), {
			...{ opened: [], closed: [], isCut: false, flows: { opened: 0, closed: 0 } },
		});
	},
);

t.test(
	"a diff has exactly the pairs, the ports and the live flows whose verdict changes",
	async () => {
		fc.assert(
			fc.property(story, ({ start, changes, flows }) => {
				const objects = new Objects();
				for (const change of start) objects.apply(change);
				const before = objects.cluster();
				for (const change of changes) if (change.kind.endsWith("Policy")) objects.apply(change);
				const after = objects.cluster();
				const passes = (cluster: typeof before, flow: (typeof flows)[number]) => {
					const { egress, ingress } = interpret(cluster, flow);
					return egress.verdict !== "deny" && ingress.verdict !== "deny";
				};
				const diff = atOnce(diffPolicies(before, before, after, flows));
				const sum = (rows: readonly { flows: number }[]) =>
					rows.reduce((all, row) => all + row.flows, 0);
				const opened = flows.filter((one) => !passes(before, one) && passes(after, one)).length;
				const closed = flows.filter((one) => passes(before, one) && !passes(after, one)).length;
				assert.deepEqual(diff.flows, { opened, closed });
				assert.deepEqual({ opened: sum(diff.opened), closed: sum(diff.closed) }, diff.flows);
				const { opened: rows } = atOnce(diffPolicies(before, before, after));
				const own = (pod: PodObject) => pod.addresses.filter((one) => podAt(before, one) === pod);
				for (const from of before.pods)
					for (const to of before.pods) {
						if (from === to) continue;
						const ends = own(from).flatMap((source) =>
							own(to)
								.filter((destination) => destination.includes(":") === source.includes(":"))
								.map((destination) => ({ source, destination })),
						);
						for (const [protocol, name] of NAMES)
							for (const port of protocol === 1 ? [0] : [0, 53, 80, 81, 8080, 65535]) {
								// Of either family.
								const opens = ends
									.map((one) => ({ ...one, protocol, port }))
									.some((flow) => !passes(before, flow) && passes(after, flow));
								const row = { from: nameOf(from), to: nameOf(to), protocol: name };
								const said = rows.some(
									(one) =>
										one.from === row.from &&
										one.to === row.to &&
										one.protocol === name &&
										hasPort(one.port, port),
								);
								assert.equal(said, opens, JSON.stringify({ ...row, port }));
							}
					}
			}),
			{ numRuns: 100 },
		);
	},
);

const NAMES = [
	[6, "tcp"],
	[17, "udp"],
	[132, "sctp"],
	[1, "other"],
] as const;

function hasPort(said: number | string | null, port: number): boolean {
	if (typeof said !== "string") return said === null || said === port;
	const [first, last] = said.split("-").map(Number) as [number, number];
	return first <= port && port <= last;
}

t.test(
	"a diff of a large cluster has bounded work and rows, and still counts every flow",
	async (t) => {
		const base = clusterOf(objectsOf(PODS));
		const pods = Array.from({ length: 20_000 }, (_, i) => ({
			...base.pods[0]!,
			...{ name: `p${i}`, namespace: `n${i % 100}`, labels: ["app", `a${i % 50}`] },
			addresses: [`10.${(i >> 16) + 1}.${(i >> 8) & 255}.${i & 255}`],
		}));
		const cluster = { ...base, pods, nodes: [] };
		const [policy] = clusterOf(
			objectsOf(`
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: all}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
`),
		).clusterPolicies;
		const flow = { source: "10.1.0.1", destination: "10.1.0.2", protocol: 6, port: 80 };
		const flows = Array.from({ length: 5_000 }, (_, i) => ({ ...flow, port: i + 1 }));
		const none = { policies: [], clusterPolicies: [] };
		const all = { policies: [], clusterPolicies: [policy!] };
		const steps = diffPolicies(cluster, none, all, flows);
		let longest = 0;
		for (;;) {
			const began = performance.now();
			const { done, value } = steps.next();
			longest = Math.max(longest, performance.now() - began);
			if (done !== true) continue;
			t.equal((value as PolicyDiff).isCut, true);
			t.equal((value as PolicyDiff).closed.length, 10_000);
			t.strictSame((value as PolicyDiff).flows, { opened: 0, closed: 5_000 });
			break;
		}
		t.comment(`longest step ${longest} ms`);
		const few = atOnce(diffPolicies(cluster, none, all, flows, { rows: 10, looks: 1 }));
		t.match(few, { isCut: true, flows: { opened: 0, closed: 5_000 } });
	},
);
