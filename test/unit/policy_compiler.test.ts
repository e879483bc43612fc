/** The compiler of network policy: new Pods, changes, limits, epochs, and what a change costs. */
import t from "tap";
import { NOT_READY, OPEN } from "../../src/policy/policy_tables.js";
import { A, app, B, C, D, pod, policy, Stage } from "../tools/policy_stage.js";

const FROM_C = policy("p", {
	ingress: [{ peers: [{ namespaces: [], pods: app("c") }], ports: undefined }],
});

t.test(
	"a new Pod is closed until its object is known (antrea#197, kube-router#873, k3s#13432, aws-npa#186)",
	async (t) => {
		const stage = new Stage();
		stage.attach(["x/a", A, "uid-a"]);
		t.strictSame(stage.ids(A), { egress: NOT_READY, ingress: NOT_READY });
		t.equal(stage.ingress(A, C), "policy_not_ready");
		stage.set("Pod", pod("x/a", A));
		t.strictSame(stage.ids(A), { egress: OPEN, ingress: OPEN });
	},
);

t.test("a Pod is that of its uid, not a former one of its name (cilium#35993)", async (t) => {
	const stage = new Stage();
	stage.set("NetworkPolicy", FROM_C);
	stage.set("Pod", pod("x/a", A, { uid: "old" }));
	stage.attach(["x/a", A, "new"]);
	t.equal(stage.ingress(A, C), "policy_not_ready");
	stage.set("Pod", pod("x/a", A, { uid: "new" }), pod("x/c", C));
	t.equal(stage.ingress(A, C), "allow");
	t.equal(stage.ingress(A, D), "deny");
	stage.set("Pod", pod("x/a", A, { uid: "mirror", mirrorOf: "new" }));
	t.equal(stage.ingress(A, C), "allow", "the mirror of a static Pod");
});

t.test(
	"a Pod that no manifest names has no labels, in the namespace that the CNI named",
	async (t) => {
		const stage = new Stage("unlabelled");
		stage.set("NetworkPolicy", FROM_C);
		stage.attach(["x/a", A], ["y/b", B]);
		t.equal(stage.ingress(A, C), "deny");
		t.equal(stage.ingress(B, C), "allow");
	},
);

t.test(
	"a Pod of this Node is known as a peer from its ADD, before its object has an address",
	async (t) => {
		const stage = new Stage();
		stage.set("NetworkPolicy", FROM_C);
		stage.set("Pod", pod("x/a", A), pod("x/c", "10.244.9.9", { addresses: [], node: "n1" }));
		stage.attach(["x/a", A], ["x/c", B]);
		t.equal(stage.ingress(A, B), "allow");
	},
);

t.test(
	"an address that gets a new Pod here has left the old one, whose late removal takes nothing",
	async (t) => {
		const stage = new Stage();
		stage.set("NetworkPolicy", FROM_C);
		const old = pod("x/c", B, { created: 5 });
		stage.set("Pod", pod("x/a", A), old, pod("x/d", "10.244.9.9", { addresses: [], node: "n1" }));
		stage.attach(["x/a", A], ["x/c", B]);
		t.equal(stage.ingress(A, B), "allow");
		const { epochs } = stage.attach(["x/a", A], ["x/d", B]);
		t.equal(stage.ingress(A, B), "deny", "before the old object says anything");
		t.ok(epochs.route);
		stage.remove("Pod", old);
		t.equal(stage.ingress(A, B), "deny");
		stage.set(
			"NetworkPolicy",
			policy("p", { ingress: [{ peers: [{ namespaces: [], pods: app("d") }], ports: undefined }] }),
		);
		t.equal(stage.ingress(A, B), "allow");
	},
);

t.test("an unusable policy closes what it may select, until it can be used", async (t) => {
	const stage = new Stage();
	stage.set("Pod", pod("x/a", A), pod("x/b", B));
	stage.attach(["x/a", A], ["x/b", B]);
	stage.set(
		"NetworkPolicy",
		policy("p", { pods: app("a"), ingress: [], unusable: "expected TCP" }),
	);
	t.strictSame(stage.ids(A), { egress: OPEN, ingress: NOT_READY });
	t.strictSame(stage.ids(B), { egress: OPEN, ingress: OPEN });
	stage.set(
		"NetworkPolicy",
		policy("p", { pods: app("a"), ingress: [{ peers: undefined, ports: undefined }] }),
	);
	t.equal(stage.ingress(A, C), "allow");
});

t.test(
	"over a limit the last whole policy stays, and a new Pod stays closed (cilium#8060, cilium#28337)",
	async (t) => {
		const stage = new Stage();
		stage.set("NetworkPolicy", FROM_C);
		stage.set("Pod", pod("x/a", A), pod("x/b", B), pod("x/c", C));
		stage.attach(["x/a", A]);
		const rule = { peers: undefined, ports: undefined };
		const huge = policy("q", { ingress: Array.from({ length: 10_001 }, () => rule) });
		const { problems } = stage.set("NetworkPolicy", huge);
		t.strictSame(problems, [
			"Cannot enforce the ingress policies of x/a: expected at most 10000 rules, got 10002",
		]);
		t.equal(stage.ingress(A, C), "allow");
		t.equal(stage.ingress(A, D), "deny");
		stage.attach(["x/a", A], ["x/b", B]);
		t.equal(stage.ingress(B, C), "policy_not_ready");
		stage.remove("NetworkPolicy", huge);
		t.equal(stage.ingress(B, C), "allow");
	},
);

t.test(
	"IPv6 blocks do not reach IPv4 in the trie that both share: the root of IPv4 is an entry",
	async (t) => {
		const stage = new Stage();
		stage.set("Pod", pod("x/a", A));
		stage.attach(["x/a", A]);
		stage.set(
			"NetworkPolicy",
			policy("p", { egress: [{ peers: [{ block: "::/0", except: [] }], ports: undefined }] }),
		);
		const { blocks } = stage.evaluator.tables;
		t.same([...blocks.keys()].sort(), ["0.0.0.0/0", "::/0"]);
		t.equal(blocks.get("0.0.0.0/0"), 0);
	},
);

t.test("flows with a Node's own address are judged anew when its labels change", async (t) => {
	const stage = new Stage();
	const peers = [{ nodes: [{ key: "zone", operator: "In" as const, values: ["a"] }] }];
	stage.set("ClusterNetworkPolicy", {
		...{ name: "c", tier: "Admin", priority: 1, audit: false, ingress: [] },
		subject: { namespaces: [], pods: [] },
		egress: [{ name: "", action: "Deny", peers, ports: undefined, isUnknown: false }],
	});
	stage.set("Pod", pod("x/a", A));
	stage.attach(["x/a", A]);
	const { epochs } = stage.set("Node", {
		...stage.objects.get("Node", "n2")!,
		labels: ["zone", "a"],
	});
	t.ok(epochs.route, "they have the route of the outside, whose flows no peer's epoch ends");
});

t.test(
	"Pods of one workload share their policies; another Pod is one write and raises nothing",
	async (t) => {
		const stage = new Stage();
		stage.set("NetworkPolicy", FROM_C);
		const labels = ["app", "a"];
		stage.set("Pod", pod("x/a1", A, { labels }), pod("x/a2", B, { labels }), pod("x/c", C));
		stage.attach(["x/a1", A], ["x/a2", B]);
		t.strictSame(stage.ids(A), stage.ids(B));
		t.equal(stage.evaluator.tables.policies.size, 1);
		const { writes, epochs } = stage.set("Pod", pod("x/c2", D, { labels: ["app", "c"] }));
		t.match([...writes], [{ table: "identities", key: D }]);
		t.equal(writes.length, 1);
		t.strictSame(epochs, { route: false, peers: new Set() });
		t.equal(stage.ingress(A, D), "allow");
		const gone = stage.remove("Pod", pod("x/c2", D));
		t.strictSame(
			gone.epochs,
			{ route: false, peers: new Set(["n2"]) },
			"flows with its Node look again",
		);
		t.equal(stage.ingress(A, D), "deny");
	},
);

t.test(
	"labels that no policy uses cost nothing (cilium#32399, cilium#32576, cilium#28003)",
	async (t) => {
		const stage = new Stage();
		stage.set("NetworkPolicy", FROM_C);
		stage.set("Pod", pod("x/a", A), pod("x/c", C));
		stage.attach(["x/a", A]);
		const many = Array.from({ length: 50 }, (_, i) =>
			pod(`x/j${i}`, `10.244.2.${i + 10}`, { labels: ["job", `${i}`] }),
		);
		t.strictSame([...stage.set("Pod", ...many).writes], []);
	},
);

t.test(
	"what is unused goes one round later, and nothing is left of it (aws-npa#615, aws-npa#627)",
	async (t) => {
		const stage = new Stage();
		stage.set("Pod", pod("x/a", A), pod("x/c", C));
		stage.attach(["x/a", A]);
		for (let round = 0; round < 50; round++) {
			const ports = [{ protocol: 6, first: round + 1, last: round + 1 }];
			stage.set(
				"NetworkPolicy",
				policy("p", { ingress: [{ peers: [{ namespaces: [], pods: app("c") }], ports }] }),
			);
			t.equal(stage.ingress(A, C, round + 1), "allow");
		}
		let { hasGarbage } = stage.remove("NetworkPolicy", policy("p", {}));
		t.ok(hasGarbage);
		for (let round = 0; hasGarbage; round++) {
			t.ok(round < 5);
			hasGarbage = stage.set("Pod").hasGarbage;
		}
		stage.set("Pod");
		const { policies, policyVerdicts, portSets, rules } = stage.evaluator.tables;
		t.same([policies.size, policyVerdicts.size, portSets.size, rules.size], [0, 0, 0, 0]);
	},
);

t.test("Pods elsewhere are asked for only while a policy in force selects peers", async (t) => {
	const stage = new Stage();
	stage.set("Pod", pod("x/a", A));
	stage.attach(["x/a", A]);
	t.equal(stage.compiler.needsPods, false);
	stage.set(
		"NetworkPolicy",
		policy("q", { ingress: [{ peers: [{ block: "10.0.0.0/8", except: [] }], ports: undefined }] }),
	);
	t.equal(stage.compiler.needsPods, false);
	stage.set("NetworkPolicy", FROM_C);
	t.equal(stage.compiler.needsPods, true);
	stage.remove("NetworkPolicy", FROM_C);
	t.equal(stage.compiler.needsPods, false);
});

t.test(
	"without policies no entry of a table is in use, and none is left in use when they have gone",
	async (t) => {
		const stage = new Stage();
		const nothing = {
			identities: 0,
			blocks: 0,
			policies: 0,
			policyVerdicts: 0,
			portSets: 0,
			rules: 0,
		};
		t.strictSame(stage.compiler.usage, nothing);
		stage.set("Pod", pod("x/a", A), pod("x/c", C));
		stage.attach(["x/a", A]);
		const ports = [{ protocol: 6, first: 80, last: 80 }];
		const limited = policy("limited", {
			ingress: [{ peers: [{ namespaces: undefined, pods: app("c") }], ports }],
		});
		stage.set("NetworkPolicy", limited);
		t.match(stage.compiler.usage, { identities: 1, policies: 1, portSets: 1, rules: 2 });
		stage.remove("NetworkPolicy", limited);
		for (let round = 0; round < 3; round++) stage.set("Pod");
		t.match(stage.compiler.usage, { policies: 0, portSets: 0, rules: 0 });
	},
);
