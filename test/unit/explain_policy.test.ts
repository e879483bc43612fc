/** `explain` and network policy: live maps of this Node, objects for the other one, and how it is printed. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { ExplainAnswer } from "../../src/api/messages/explain.js";
import { explainText } from "../../src/cli/explain.js";
import { mapping } from "../../src/cluster/fields.js";
import { kindOf, readObject } from "../../src/cluster/kinds.js";
import { Store } from "../../src/cluster/store.js";
import { atOnce } from "../../src/loop/turns.js";
import { PolicyCompiler, type PolicyKind } from "../../src/policy/compiler.js";
import { policyEntry, portSetEntry, verdictEntry } from "../../src/policy/entries.js";
import { everyAddress, interpret, podAt } from "../../src/policy/interpreter.js";
import { readManifestObjects } from "../../src/policy/manifests.js";
import { applyWrite, noPolicyTables } from "../../src/policy/policy_tables.js";
import { atomWords } from "../../src/policy/words.js";
import { explain } from "../../src/report/explain.js";
import { policyAnswer } from "../../src/report/explain_policy.js";
import { clusterAt } from "../../src/report/policy_cluster.js";
import {
	type Endpoint,
	EndpointPolicy,
	type Route,
	RouteKind,
} from "../../src/tables/generated.js";
import { serviceOf } from "../packet/services.js";
import * as world from "../packet/world.js";
import { HERE, story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";

Object.assign(world.ifindex, { fairway0: 9, wire0: 2, pod0: 3, pod1: 4 });

const KINDS: readonly PolicyKind[] = [
	...(["Node", "Namespace", "Pod", "NetworkPolicy", "ClusterNetworkPolicy"] as const),
];
const PODS = [
	{ name: "a", node: "n1", addresses: [world.podA[4], world.podA[6]] },
	{ name: "b", node: "n1", addresses: [world.podB[4], world.podB[6]] },
	{ name: "far", node: "n3", addresses: [world.geneve4.pod[4], world.geneve4.pod[6]] },
];
const OBJECTS = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}
---
${PODS.map(
	({ name, node, addresses }) => `
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: ${name}, labels: {app: ${name}}}
spec: {nodeName: ${node}}
status: {podIPs: [${addresses.map((ip) => `{ip: "${ip}"}`)}]}
---`,
).join("")}
`;

/** This Node with these policies in force; `objects` are what the store has. */
function nodeWith(policies: string, objects = policies) {
	const storeOf = (text: string) => {
		const read = readManifestObjects(OBJECTS + text);
		if ("fault" in read) throw new Error(read.fault);
		const store = new Store();
		store.update((writer) => {
			for (const object of read.objects) {
				const kind = kindOf(mapping(object));
				if (kind === undefined) continue;
				const reading = readObject(kind, object);
				if ("record" in reading) writer.put(reading.kind, reading.key, reading.record);
			}
		});
		return store;
	};
	const endpoints = PODS.filter(({ node }) => node === "n1").map(({ name, addresses }) => ({
		...{ id: name, namespace: "x", name, addresses },
	}));
	const source = storeOf(policies);
	const compiler = new PolicyCompiler({ source, nodeName: "n1", unknownPods: "unlabelled" });
	const changed = Object.fromEntries(KINDS.map((kind) => [kind, [...source.keys(kind)]]));
	const compiled = noPolicyTables();
	for (const write of atOnce(compiler.update({ changed, endpoints })).writes)
		applyWrite(compiled, write);
	const tables = world.makeTables(64);
	tables.limit = compiled.classLimit.get(0) ?? 0;
	for (const [key, number] of compiled.identities) tables.identities.set(key, number);
	for (const [key, number] of compiled.blocks) tables.blocks.set(key, number);
	for (const [id, entry] of compiled.policies) tables.policies.set(id, policyEntry(entry));
	for (const [key, one] of compiled.policyVerdicts)
		tables.policyVerdicts.set(key, verdictEntry(one));
	for (const [id, part] of compiled.portSets) tables.portSets.set(id, portSetEntry(part));
	for (const [address, { egress, ingress }] of compiled.endpointPolicies)
		tables.endpoints.set(address, {
			...tables.endpoint(address)!,
			...{ egressPolicy: egress, ingressPolicy: ingress },
		});
	const store = storeOf(objects);
	const rule = (id: number) => compiled.rules.get(id);
	const nodeOf = (address: string) =>
		/^(10\.244\.3|fd00:10:244:3)/.test(address) ? "n3" : undefined;
	const ask = (from: string, to: string, more: object = {}): Promise<ExplainAnswer> =>
		explain(
			{ source: from, destination: to, protocol: "tcp", ...more },
			{
				...{ tables, rule, interfaces: [], servicePort: () => undefined },
				peer: () => undefined,
				self: {
					...{
						node: "n1",
						podCIDRs: [],
						gateways: [],
						gatewayMac: world.GATEWAY_MAC,
						podMTU: 1500,
					},
					...{ transport: { interface: "wire0", addresses: [], mtu: 1500 } },
					snat: { address4: "", address6: "" },
				},
				endpoints: endpoints.map((one) => ({
					...one,
					...{ network: "", containerId: one.id, ifName: "eth0", netns: "", gateways: [] },
					...{ mac: "", hostInterface: one.id, mtu: 1500, attachedAt: "" },
				})),
				names: { pod: () => [], service: () => undefined, servicesAt: () => [] },
				places: { node: "n1", tables, peer: () => undefined, nodes: new Map() },
				policies: async (addresses) => ({
					cluster: atOnce(clusterAt({ store, endpoints, nodeName: "n1" }, addresses)),
					...{ nodeName: "n1", rule, tables, nodeOf },
					atoms: (number) => compiler.atomsOf(number)?.map(atomWords),
				}),
			},
		);
	return { ask, tables };
}

const policy = (name: string, spec: string) => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: ${name}}
spec: ${spec}
---`;
const WEB = policy(
	"web",
	"{podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: far}}}], ports: [{port: 80}]}]}",
);

t.test(
	"the own side by the live maps: rule, policy, class with its atoms, tier by tier",
	async (t) => {
		for (const family of [4, 6] as const) {
			const { ask } = nodeWith(WEB);
			const denied = await ask(world.podA[family], world.podB[family]);
			t.match(denied, {
				...{ drop: "policy_ingress", reason: "Isolated by x/web, and no rule allows the flow." },
				policy: {
					egress: { verdict: "none", policy: null, rule: null, by: "maps", node: "n1", pod: "x/a" },
					ingress: {
						...{ verdict: "deny", policy: "x/web", rule: null, by: "maps", node: "n1", pod: "x/b" },
						class: { atoms: [] },
						tiers: [
							{ tier: "Admin", outcome: "none" },
							{ tier: "NetworkPolicy", policies: ["x/web"], outcome: "isolated", policy: "x/web" },
							{ tier: "Baseline", outcome: "none" },
						],
						staged: null,
					},
				},
			});
			const allowed = await ask(world.geneve4.pod[family], world.podB[family]);
			t.match(allowed, {
				drop: null,
				policy: {
					egress: { verdict: "none", by: "objects", node: "n3", pod: "x/far" },
					ingress: {
						...{ verdict: "allow", policy: "x/web", rule: 0, by: "maps" },
						class: { atoms: ["Pods with app=far of namespace x"] },
						why: "Allowed by rule 0 of x/web: from Pods with app=far of namespace x, TCP 80.",
					},
				},
			});
			const own = await ask(world.nodeAddress[family], world.podB[family]);
			if (family === 4)
				t.match(own.policy.ingress, {
					...{ verdict: "none", by: "nobody", pod: "x/b" },
					why: "192.168.1.11 is an address of n1, which always reaches its own Pods.",
				});
			const steps = JSON.stringify(denied.steps);
			t.match(
				steps,
				/denied by the isolation by x\/web \(policy 2\), for class 0/,
				"rules have names",
			);
		}
	},
);

t.test("the other side as its Node compiles the same objects, and said so", async (t) => {
	const { ask } = nodeWith(policy("far", "{podSelector: {matchLabels: {app: far}}, ingress: []}"));
	const answer = await ask(world.podA[4], world.geneve4.pod[4]);
	t.match(answer, {
		drop: null,
		policy: {
			egress: { verdict: "none", by: "maps" },
			ingress: {
				verdict: "deny",
				policy: "x/far",
				rule: null,
				by: "objects",
				node: "n3",
				class: null,
			},
		},
	});
	const shown = explainText(answer);
	t.match(shown, /^Egress +open, by the live maps of n1\. No policy isolates the Pod for egress/m);
	t.match(shown, /^Ingress +denied, by the objects that n3 compiles\. Isolated by x\/far/m);
	t.match(shown, /^Verdict +forwarded here; n3 drops it: policy_ingress$/m);
	t.match(
		shown,
		/^Policies\n {2}ingress of x\/far\n {4}Admin +no policy selects the Pod\n {4}NetworkPolicy +isolated by x\/far; no rule allows it$/m,
	);
	const unknown = await ask(world.podA[4], "10.244.3.77");
	t.match(unknown.policy.ingress, { verdict: "none", by: "unknown", node: "n3", pod: null });
	t.match(
		explainText(unknown),
		/^Ingress +unknown\. This Node does not know the Pod at 10\.244\.3\.77: only n3/m,
	);
	t.match((await ask(world.podA[4], world.outside[4])).policy.ingress, {
		...{ verdict: "none", by: "nobody", why: `${world.outside[4]} is no Pod's.` },
	});
});

t.test("a change that is not in force yet, Pods that are not ready, staged policies", async (t) => {
	const late = nodeWith(WEB, policy("web", "{podSelector: {}, ingress: [{}]}"));
	t.match((await late.ask(world.podA[4], world.podB[4])).policy.ingress, {
		...{ verdict: "deny", policy: "x/web", rule: null },
		why: "Isolated by x/web, and no rule allows the flow. The objects say something else (allow by x/web): a change is not in force yet, or cannot be enforced (fairway status).",
	});
	const { ask, tables } = nodeWith("");
	const endpoint = tables.endpoint(world.podB[4])!;
	tables.endpoints.set(world.podB[4], {
		...endpoint,
		ingressPolicy: EndpointPolicy.NOT_READY,
	});
	t.match(await ask(world.podA[4], world.podB[4]), {
		drop: "policy_not_ready",
		policy: { ingress: { verdict: "deny", policy: null, rule: null, why: /not known yet/ } },
	});
	const staged = nodeWith(
		WEB.replace("name: web", "name: web, annotations: {fairway.dev/audit: 'true'}"),
	);
	const answer = await staged.ask(world.podA[4], world.podB[4]);
	t.match(answer, {
		drop: null,
		policy: {
			ingress: {
				verdict: "none",
				staged: { verdict: "deny", policy: "x/web", rule: null, why: /^Isolated by x\/web/ },
			},
		},
	});
	t.match(explainText(answer), /^ {4}Staged +would be denied: Isolated by x\/web/m);
});

t.test(
	"explain's verdict and rule are those of the packet, at both ends of random flows",
	async () => {
		let judged = 0;
		fc.assert(
			fc.property(story, ({ start, changes, flows }) => {
				const site = new PolicySite();
				for (const change of [...start, ...changes]) site.objects.apply(change);
				for (const write of site.compileAll().writes) site.evaluator.apply(write);
				const cluster = site.objects.cluster();
				const { tables, reader } = site.evaluator;
				const own = cluster.nodes.find(({ name }) => name === HERE);
				const context = {
					...{ cluster, nodeName: HERE, nodeOf: () => undefined, atoms: () => [] },
					rule: (id: number) => tables.rules.get(id),
					tables: {
						...reader,
						endpoint: (address: string) => {
							const policies = tables.endpointPolicies.get(address);
							const pod = podAt(cluster, address);
							if (policies === undefined || pod === undefined) return undefined;
							const { egress: egressPolicy, ingress: ingressPolicy } = policies;
							return { index: cluster.pods.indexOf(pod), egressPolicy, ingressPolicy } as Endpoint;
						},
						route: (address: string) =>
							own !== undefined && everyAddress(own).includes(address)
								? ({ kind: RouteKind.HOST } as Route)
								: undefined,
					},
				};
				for (const flow of flows) {
					const said = interpret(cluster, flow);
					const answer = policyAnswer(flow, context);
					for (const direction of ["egress", "ingress"] as const) {
						const { verdict, policy, rule, by, why } = answer[direction];
						assert.deepEqual({ verdict, policy, rule }, said[direction]);
						assert.doesNotMatch(why, /something else/);
						if (by === "maps") judged++;
					}
				}
			}),
			{ numRuns: 150 },
		);
		assert.ok(judged > 100, `${judged} of them by the maps`);
	},
);

t.test("with several backends: the policies of each, where they differ", async (t) => {
	const { ask } = nodeWith(policy("b", "{podSelector: {matchLabels: {app: b}}, ingress: []}"));
	const { clusterIP } = serviceOf("external", 4, 6);
	const answer = await ask(world.podA[4], clusterIP, { destinationPort: 80 });
	t.match(answer.backends, { length: 2 });
	t.match(answer.policy, {
		egress: { verdict: "none", by: "maps" },
		ingress: {
			...{ verdict: null, policy: null, rule: null, node: null, tiers: [] },
			why: new RegExp(
				`^${world.podB[4]}: deny\\. Isolated by x/b, .* ${world.geneve4.pod[4]}: none\\. `,
			),
		},
	});
	t.match(explainText(answer), /^Ingress +it depends\./m);
});
