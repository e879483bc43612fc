/** How policies are read for a person: the same verdict as the interpreter's, with the tier and rule that decided. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { type Cluster, interpret } from "../../src/policy/interpreter.js";
import { clusterOf, readManifestObjects } from "../../src/policy/manifests.js";
import { readSide, type TierReading } from "../../src/policy/tiers.js";
import { atomWords, ruleWords } from "../../src/policy/words.js";
import { Objects, story } from "../tools/policy_clusters.js";

const NONE = { verdict: "none", policy: null, rule: null };

t.test("the reading tier by tier agrees with the interpreter on random clusters", async () => {
	fc.assert(
		fc.property(story, fc.boolean(), ({ start, changes, flows }, staged) => {
			const objects = new Objects();
			for (const change of [...start, ...changes]) objects.apply(change);
			const cluster = objects.cluster();
			for (const flow of flows) {
				const said = interpret(cluster, flow, staged);
				for (const direction of ["egress", "ingress"] as const) {
					const read = readSide(cluster, flow, direction, staged);
					assert.deepEqual(read?.opinion ?? NONE, said[direction]);
				}
			}
		}),
		{ numRuns: 300 },
	);
});

function clusterWith(policies: string): Cluster {
	const read = readManifestObjects(`
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
status: {podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: b, labels: {app: b}}
spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.244.1.3}]}
---
${policies}`);
	if ("fault" in read) throw new Error(read.fault);
	return clusterOf(read.objects);
}

const FLOW = { source: "10.244.1.2", destination: "10.244.1.3", protocol: 6, port: 8080 };
const ADMIN = (action: string) => `
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: admin}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
    - {action: Deny, from: [{namespaces: {matchLabels: {team: none}}}]}
    - {action: ${action}, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}], protocols: [{destinationNamedPort: http}]}
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
---`;
const ISOLATING = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: deny}
spec: {podSelector: {}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: web}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: http}, {port: 53, protocol: UDP}]}]
`;

const row = (tier: TierReading["tier"], policies: string[], outcome: TierReading["outcome"]) => ({
	...{ tier, policies, outcome, policy: null, rule: null, says: null },
});

t.test(
	"each tier says which policies select the Pod, what decided, and what its rule says",
	async (t) => {
		const admin = {
			...{ tier: "Admin", policies: ["admin"], policy: "admin", rule: 1 },
			says: "from Pods with app=a of every namespace, port http",
		};
		const web = {
			...{ tier: "NetworkPolicy", policies: ["x/deny", "x/web"], outcome: "allow", rule: 1 },
			...{ policy: "x/web", says: "from 10.0.0.0/8 except 10.1.0.0/16, TCP port http, UDP 53" },
		};
		const denied = readSide(clusterWith(ADMIN("Deny") + ISOLATING), FLOW, "ingress");
		const decided = { ...admin, outcome: "deny" };
		t.strictSame(denied, {
			pod: "x/b",
			opinion: { verdict: "deny", policy: "admin", rule: 1 },
			decided,
			tiers: [
				decided,
				row("NetworkPolicy", ["x/deny", "x/web"], "notAsked"),
				row("Baseline", ["base"], "notAsked"),
			],
		});
		const passed = readSide(clusterWith(ADMIN("Pass") + ISOLATING), FLOW, "ingress");
		t.strictSame(passed?.tiers, [
			{ ...admin, outcome: "pass" },
			web,
			row("Baseline", ["base"], "notAsked"),
		]);
		const isolated = readSide(clusterWith(ISOLATING), { ...FLOW, port: 81 }, "ingress");
		t.strictSame(isolated?.tiers, [
			row("Admin", [], "none"),
			{ ...row("NetworkPolicy", ["x/deny", "x/web"], "isolated"), policy: "x/deny" },
			row("Baseline", [], "none"),
		]);
		const baseline = readSide(clusterWith(ADMIN("Pass")), { ...FLOW, port: 81 }, "ingress");
		t.match(baseline?.tiers, [
			row("Admin", ["admin"], "noMatch"),
			row("NetworkPolicy", [], "none"),
			{
				outcome: "deny",
				policy: "base",
				rule: 0,
				says: "from all Pods of every namespace, every port",
			},
		]);
		const self = { ...FLOW, source: FLOW.destination };
		t.match(readSide(clusterWith(ISOLATING), self, "ingress"), {
			opinion: NONE,
			tiers: [{}, row("NetworkPolicy", ["x/deny", "x/web"], "itself"), {}],
		});
		t.equal(
			readSide(clusterWith(ISOLATING), { ...FLOW, source: "192.168.1.1" }, "ingress"),
			undefined,
		);
		t.equal(readSide(clusterWith(ISOLATING), { ...FLOW, source: "8.8.8.8" }, "egress"), undefined);
	},
);

t.test("rules and atoms in words", async (t) => {
	const { policies, clusterPolicies } = clusterWith(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: p}
spec:
  podSelector: {}
  egress:
    - {}
    - to: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a, b]}, {key: old, operator: DoesNotExist}]}}]
      ports: [{protocol: SCTP}, {port: 8000, endPort: 9000}]
    - to: [${Array.from({ length: 10 }, (_, i) => `{ipBlock: {cidr: 10.${i}.0.0/16}}`).join()}]
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: c}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress:
    - {action: Accept, to: [{nodes: {}}, {networks: [10.0.0.0/8]}]}
    - {action: Accept, to: [{domainNames: [a.example]}]}
`);
	const words = (rules: readonly Parameters<typeof ruleWords>[0][] = [], namespace = "") =>
		rules.map((rule) => ruleWords(rule, "egress", namespace));
	t.strictSame(words(policies[0]?.egress, "x"), [
		"to everything, every port",
		"to all Pods of namespaces with !old,team notin (a,b), all SCTP, TCP 8000-9000",
		"to 10.0.0.0/16 or 10.1.0.0/16 or 10.2.0.0/16 or 10.3.0.0/16 or 10.4.0.0/16 or 10.5.0.0/16 or 10.6.0.0/16 or 3 more, every port",
	]);
	t.strictSame(words(clusterPolicies[0]?.egress), [
		"to all Nodes or 10.0.0.0/8, every port",
		"with a peer or protocol that this version does not know",
	]);
	t.equal(
		atomWords({ kind: "pods", namespace: "x", namespaces: [], pods: [] }),
		"all Pods of namespace x",
	);
	t.equal(atomWords({ kind: "port", name: "http", protocol: 6, port: 80 }), "port http is TCP 80");
});
