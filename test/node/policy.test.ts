/**
 * Truth tables of network policy: nine Pods on four Nodes, every pair probed straight and by Service, Nodes, and a
 * client outside. What each probe should see is what the interpreter reads in the same objects.
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { clusterNetwork, network, PolicyLab } from "../tools/policy_lab.js";

type Pods = { [label: string]: string };
const pods = (matchLabels: Pods) => ({ podSelector: { matchLabels } });
const spaces = (matchLabels: Pods) => ({ namespaceSelector: { matchLabels } });
const named = (name: string) => ({ "kubernetes.io/metadata.name": name });
const block = (cidr: string, ...except: string[]) => ({ ipBlock: { cidr, except } });
const ingress = (...rules: object[]) => ({ policyTypes: ["Ingress"], ingress: rules });
const egress = (...rules: object[]) => ({ policyTypes: ["Egress"], egress: rules });
const rule = (action: string, peers: object, protocols?: object[]) => ({
	...{ action, ...peers },
	...(protocols === undefined ? {} : { protocols }),
});
const tcp = (number: number) => ({ tcp: { destinationPort: { number } } });

interface Step {
	title: string;
	/** By namespace/name; all others are deleted. */
	policies: Record<string, object>;
	/** Labels from here on. */
	pods?: Record<string, Pods>;
	namespaces?: Record<string, Pods>;
}

/** What depends on where an address is, and so on the mode. */
const EVERYWHERE: Step[] = [
	{
		title: "deny all of one namespace",
		policies: { "x/deny": { policyTypes: ["Ingress", "Egress"] } },
	},
	{
		title: "selectors at both ends",
		policies: {
			"x/out": egress({ to: [spaces({ team: "y" }), pods({ pod: "b" })] }),
			"y/in": ingress({ from: [{ ...spaces({ team: "x" }), ...pods({ pod: "a" }) }] }),
			"z/in": ingress({ from: [{ namespaceSelector: {} }], ports: [{ port: "web" }] }),
		},
	},
	{
		title: "blocks of Pods with excepts",
		policies: {
			"x/out": egress(
				{ to: [block("10.244.0.0/16", "10.244.2.0/24"), block("fd00:10:244:3::/64")] },
				{ to: [block("10.244.2.0/24")], ports: [{ port: 81 }] },
			),
			"y/in": ingress({ from: [block("0.0.0.0/0", "10.244.1.2/31", "203.0.113.0/24")] }),
			"z/in": ingress({ from: [block("::/0", "fd00:10:244:1::/64")] }),
		},
	},
	{
		title: "blocks of Nodes",
		policies: {
			"x/in": ingress({ from: [block("192.168.1.2/32"), block("fd00:192:168:2::1/128")] }),
			"y/in": ingress({ from: [block("10.244.1.1/32"), block("fd00:10:244:3::1/128")] }),
			"z/in": ingress({ from: [block("192.168.0.0/16", "192.168.2.1/32")] }),
			"x/out": egress({ to: [block("192.168.2.0/24"), block("fd00:192:168:1::1/128")] }),
		},
	},
	{
		title:
			"an outside client, whose NodePort is of this Node or of another (antrea#280, cilium#17144, cilium#23603)",
		policies: {
			"x/in": ingress({ from: [block("203.0.113.10/32"), block("2001:db8:113::/64")] }),
			"y/out": egress({ to: [block("203.0.113.0/24")], ports: [{ port: 80, endPort: 81 }] }),
			"z/in": ingress({ from: [block("192.168.1.0/24")] }),
		},
	},
	{
		title: "tiers: Admin with Pass, NetworkPolicies, Baseline",
		policies: {
			admin: {
				ingress: [
					rule("Pass", { from: [{ namespaces: { matchLabels: { team: "x" } } }] }, [tcp(81)]),
					rule("Deny", { from: [{ namespaces: { matchLabels: { team: "x" } } }] }),
					rule("Accept", { from: [{ namespaces: { matchLabels: { team: "y" } } }] }),
				],
				egress: [rule("Deny", { to: [{ nodes: { matchLabels: { zone: "odd" } } }] })],
			},
			base: {
				...{ tier: "Baseline", subject: { namespaces: { matchLabels: { team: "y" } } } },
				ingress: [rule("Deny", { from: [{ namespaces: {} }] })],
				egress: [rule("Deny", { to: [{ networks: ["10.244.2.0/24", "2001:db8::/32"] }] })],
			},
			"z/in": ingress({ ports: [{ port: 80 }, { protocol: "UDP", port: "dns" }] }),
		},
	},
];

/** What only objects decide. */
const ONCE: Step[] = [
	{ title: "default deny of ingress", policies: { "x/deny": {}, "y/deny": pods({ pod: "b" }) } },
	{ title: "default deny of egress", policies: { "y/deny": egress(), "z/deny": egress() } },
	{
		title: "an empty rule allows all, whatever else isolates",
		policies: { "x/deny": {}, "x/all": ingress({}), "y/deny": egress(), "y/all": egress({}) },
	},
	{
		title: "two conditions of one peer, and two peers",
		policies: {
			"x/in": ingress({ from: [{ ...spaces(named("y")), ...pods({ pod: "c" }) }] }),
			"y/in": ingress({ from: [spaces(named("z")), pods({ pod: "c" })] }),
		},
	},
	{
		title: "expressions",
		policies: {
			"x/in": ingress({
				from: [
					{
						namespaceSelector: {
							matchExpressions: [{ key: "team", operator: "NotIn", values: ["z"] }],
						},
						podSelector: {
							matchExpressions: [
								{ key: "pod", operator: "In", values: ["a", "b"] },
								{ key: "extra", operator: "DoesNotExist" },
							],
						},
					},
				],
			}),
			"z/in": {
				podSelector: { matchExpressions: [{ key: "pod", operator: "Exists" }] },
				...ingress({ from: [{ namespaceSelector: {} }] }),
			},
		},
	},
	{
		title: "ports: a number, a name, a range, a protocol",
		policies: {
			"x/in": ingress({ ports: [{ port: 81 }, { protocol: "UDP" }] }),
			"y/in": ingress({ ports: [{ port: "web" }, { protocol: "UDP", port: "web" }] }),
			"z/in": ingress({ ports: [{ port: 81, endPort: 8000 }] }),
		},
	},
	{
		title: "named ports of egress are those of each destination; Services' ports are none",
		policies: {
			"x/out": egress({ to: [{ namespaceSelector: {} }], ports: [{ port: "web" }] }),
			"y/out": egress({ ports: [{ port: 8000 }] }),
			"z/out": egress({ to: [block("10.96.0.0/16"), block("fd00:96::/112")] }),
		},
	},
	{
		title: "SCTP is never TCP",
		policies: { "x/in": ingress({ ports: [{ protocol: "SCTP", port: 80 }] }) },
	},
	{
		title: "blocks of one policy that overlap each other's excepts",
		policies: {
			"x/out": egress(
				{ to: [block("10.244.2.0/24", "10.244.2.2/32"), block("::/0", "fd00:10:244:2::/64")] },
				{ to: [block("10.244.2.2/32"), block("fd00:10:244:2::2/128")] },
			),
		},
	},
	{
		title: "stacked",
		policies: {
			"x/one": ingress({ from: [pods({ pod: "b" })] }),
			"x/two": { ...pods({ pod: "a" }), ...ingress({ from: [spaces({ team: "y" })] }) },
			"x/three": { ...pods({ pod: "a" }), ...ingress({ ports: [{ port: 81 }] }) },
		},
	},
	{
		title: "one updated, one deleted",
		policies: {
			"x/one": ingress({ from: [pods({ pod: "c" })] }),
			"x/two": { ...pods({ pod: "b" }), ...ingress({ from: [spaces({ team: "y" })] }) },
		},
	},
	{
		title: "a Pod is relabelled",
		policies: {
			"x/one": ingress({ from: [pods({ pod: "c" }), spaces({ team: "y" })] }),
			"y/two": { ...pods({ role: "new" }), ...egress() },
		},
		pods: { "x-b": { pod: "c" }, "y-b": { pod: "b", role: "new" } },
	},
	{
		title: "namespaces are relabelled",
		policies: {
			"x/one": ingress({ from: [pods({ pod: "c" }), spaces({ team: "y" })] }),
			"y/two": { ...pods({ role: "new" }), ...egress() },
		},
		namespaces: { y: {}, z: { team: "y" } },
	},
	{
		title: "labels are as they were",
		policies: {
			"x/one": ingress({ from: [pods({ pod: "c" }), spaces({ team: "y" })] }),
			"y/two": { ...pods({ role: "new" }), ...egress() },
		},
		pods: { "x-b": { pod: "b" }, "y-b": { pod: "b" } },
		namespaces: { y: { team: "y" }, z: { team: "z" } },
	},
	{
		title:
			"a Pod reaches itself by its Service: NetworkPolicies let it, ClusterNetworkPolicies are asked",
		policies: {
			"x/deny": { policyTypes: ["Ingress", "Egress"] },
			admin: {
				subject: { namespaces: { matchLabels: { team: "y" } } },
				ingress: [rule("Deny", { from: [{ namespaces: { matchLabels: { team: "y" } } }] })],
			},
		},
	},
	{
		title: "priorities, names of equal ones, named ports, an unknown peer",
		policies: {
			first: {
				priority: 5,
				subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { pod: "a" } } } },
				ingress: [
					rule("Accept", { from: [{ namespaces: {} }] }, [{ destinationNamedPort: "web" }]),
				],
			},
			second: { priority: 6, ingress: [rule("Deny", { from: [{ namespaces: {} }] }, [tcp(80)])] },
			third: {
				priority: 6,
				ingress: [rule("Accept", { from: [{ namespaces: {} }] })],
				egress: [rule("Deny", { to: [{ networks: ["10.244.4.0/24"] }] })],
			},
			fourth: {
				...{ tier: "Baseline", subject: { namespaces: { matchLabels: { team: "z" } } } },
				egress: [rule("Accept", { to: [{ domainNames: ["example.org"] }] })],
			},
		},
	},
	{
		title: "the older version of the API, and a policy that is staged",
		policies: {
			old: {
				version: "v1alpha2",
				egress: [rule("Deny", { to: [{ networks: ["0.0.0.0/0"] }] }, [tcp(81)])],
			},
			"y/staged": { audit: true },
		},
	},
	{ title: "none, and nothing is counted as denied (k3s#9032)", policies: {} },
];

t.test("network policy", async (t) => {
	const lab = await PolicyLab.start(t);
	const probes = lab.probes();

	const take = async (t: Test, { title, policies, pods = {}, namespaces = {} }: Step) => {
		lab.policies.clear();
		for (const [name, { audit, version, ...spec }] of Object.entries(policies) as [
			string,
			{ audit?: boolean; version?: string },
		][]) {
			const annotations = audit ? { "fairway.dev/audit": "true" } : {};
			lab.policies.set(
				name,
				name.includes("/")
					? network(name, spec, { annotations })
					: clusterNetwork(name, spec, version),
			);
		}
		for (const [label, own] of Object.entries(pods)) lab.pods[label]!.labels = own;
		Object.assign(lab.namespaces, namespaces);
		await lab.apply();
		const wrong = await lab.wrong(probes);
		t.same(wrong.slice(0, 20), [], `${title}: ${wrong.length} of ${probes.length} are wrong`);
	};

	for (const mode of ["hybrid", "encap", "noEncap"] as const)
		t.test(mode, async (t) => {
			// XDP hands up what it does not know to be allowed.
			await lab.setMode(mode, mode === "encap" ? "native" : "off");
			for (const step of EVERYWHERE) await take(t, step);
			if (mode === "hybrid") for (const step of ONCE) await take(t, step);
		});

	t.test("what cannot be used is reported by name, and what was in force stays", async (t) => {
		const NODES = ["node1", "node2", "node3", "node4"];
		const table = async (what: string) => {
			const wrong = await lab.wrong(probes);
			t.same(wrong.slice(0, 20), [], `${what}: ${wrong.length} of ${probes.length} are wrong`);
		};
		const reported = (what: string, nodes: readonly string[], ...texts: RegExp[]) =>
			Promise.all(
				nodes.map((node) =>
					until(`${node} reports ${what}`, async () => {
						const problems = await lab.problems(node);
						return texts.every((text) => text.test(problems));
					}),
				),
			);
		await lab.setMode("hybrid");
		const put = (name: string, spec: object, ...places: Map<string, object>[]) => {
			for (const place of places)
				place.set(name, name.includes("/") ? network(name, spec) : clusterNetwork(name, spec));
		};
		lab.policies.clear();
		put("x/one", ingress({ from: [pods({ pod: "b" })] }), lab.policies);
		put("y/one", egress({ to: [block("10.244.3.0/24")] }), lab.policies);
		const admin = {
			subject: { namespaces: { matchLabels: { team: "z" } } },
			ingress: [rule("Deny", { from: [{ namespaces: {} }] }, [tcp(81)])],
		};
		put("admin", admin, lab.policies);
		await lab.apply();

		const operator = { matchExpressions: [{ key: "pod", operator: "Like", values: ["b"] }] };
		put("x/one", { podSelector: operator, ...ingress() }, lab.instead);
		put("y/one", egress({ to: [block("10.244.3.0/24", "10.0.0.0/8")] }), lab.instead);
		put("admin", { ...admin, priority: 5000 }, lab.instead);
		put("x/new", { ...pods({ pod: "c" }), ...egress({ ports: [{ endPort: 90 }] }) }, lab.instead);
		// Of a new one nothing is known: what it selects is closed in its direction.
		await lab.apply(["x-c"]);
		await reported("all of them", NODES, /x\/one/, /y\/one/, /admin/, /x\/new/);
		await table("each has a fault of its own");

		lab.write("kind: NetworkPolicy\n  metadata: ][");
		await reported("the file", NODES, /objects\.yaml/);
		await table("a file that is no YAML");

		lab.instead.clear();
		const rules = Array.from({ length: 10_001 }, () => ({}));
		put("y/huge", { ...pods({ pod: "a" }), ...ingress(...rules) }, lab.instead);
		lab.write();
		await reported("the Pod", ["node2"], /y\/a: expected at most 10000 rules, got/);
		await table("a policy over the limit: the Pod keeps its last whole policies");

		lab.instead.clear();
		await lab.apply();
		for (const node of NODES)
			await until(`${node} has no problem`, async () => (await lab.problems(node)) === "");
		await table("all is well again");
	});
});
