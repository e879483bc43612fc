/** Network policy in the agent: when it is in force, for whom, and what new Pods wait for. */
import t, { type Test } from "tap";
import { Policies } from "../../src/agent/policies.js";
import { readObject } from "../../src/cluster/kinds.js";
import { type Kind, type PodSource, Store } from "../../src/cluster/store.js";
import type { Endpoint } from "../../src/cni/endpoint.js";
import { CniError, ErrorCode } from "../../src/cni/errors.js";
import { until } from "../../src/lab/until.js";
import { NOT_READY, OPEN } from "../../src/policy/policy_tables.js";
import { PaperPolicies } from "../tools/paper_policies.js";

const KINDS: Kind[] = ["Node", "Namespace", "Pod", "NetworkPolicy", "ClusterNetworkPolicy"];

const NODE = {
	kind: "Node",
	metadata: { name: "n1" },
	spec: { podCIDRs: ["10.244.1.0/24"] },
	status: { addresses: [{ type: "InternalIP", address: "192.168.1.11" }] },
};

function pod(name: string, more: { uid?: string; labels?: object; annotations?: object } = {}) {
	return {
		kind: "Pod",
		metadata: { namespace: "x", name, ...more },
		spec: { nodeName: "n1", containers: [] },
	};
}

function policy(name: string, spec: object) {
	return { kind: "NetworkPolicy", metadata: { namespace: "x", name }, spec };
}

const DENY = policy("deny", { podSelector: {}, policyTypes: ["Ingress"] });
const FROM_PODS = policy("from", {
	podSelector: {},
	policyTypes: ["Ingress"],
	ingress: [{ from: [{ podSelector: { matchLabels: { app: "a" } } }] }],
});

function endpoint(name: string, address: string, uid?: string): Endpoint {
	return {
		...{ network: "fairway", containerId: `${name}-${uid}`, ifName: "eth0", netns: "/run/netns/x" },
		...{ addresses: [address], gateways: [], mac: "02:00:00:00:00:01", mtu: 1500 },
		...{ hostInterface: `fairway-${name}-${uid}`, attachedAt: "", namespace: "x", name },
		...(uid === undefined ? {} : { uid }),
	};
}

class PaperPods implements PodSource {
	wanted: boolean | undefined;
	hasOthers = false;
	fetched: string[] = [];
	onFetch: (name: string) => void = () => {};
	#listener: () => void = () => {};
	wantOthers(wanted: boolean) {
		this.wanted = wanted;
	}
	listen(listener: () => void) {
		this.#listener = listener;
	}
	async fetch(namespace: string, name: string) {
		this.fetched.push(`${namespace}/${name}`);
		this.onFetch(name);
	}
	told() {
		this.hasOthers = true;
		this.#listener();
	}
}

class Stage {
	readonly store = new Store();
	readonly kernel = new PaperPolicies();
	readonly pods = new PaperPods();
	readonly lines: string[] = [];
	/** Seconds that changes took. */
	readonly took: number[] = [];
	/** Rules in force, whenever some are about to go. */
	readonly going: number[] = [];
	endpoints: Endpoint[] = [];
	isReady = true;
	readonly policies: Policies;

	constructor(t: Test, unknownPods: "closed" | "unlabelled" = "closed", unknownMs = 10_000) {
		const line = (_: object, message: string) => void this.lines.push(message);
		this.policies = new Policies({
			...{ nodeName: "n1", store: this.store, kernel: this.kernel, unknownPods, unknownMs },
			pods: unknownPods === "closed" ? this.pods : undefined,
			endpoints: () => this.endpoints,
			peerIds: () => new Map(),
			isReady: () => this.isReady,
			onInForce: (seconds) => this.took.push(seconds),
			onRulesGo: async () => void this.going.push(this.policies.rules().size),
			log: { debug: line, info: line, warn: line, error: line },
		});
		t.teardown(() => this.policies.stop());
	}

	put(...objects: { kind: string }[]) {
		this.store.update((writer) => {
			for (const object of objects) {
				const reading = readObject(object.kind as Kind, object);
				if (!("record" in reading)) throw new Error(JSON.stringify(reading));
				writer.put(reading.kind, reading.key, reading.record as never);
			}
		});
	}

	remove(kind: Kind, key: string) {
		this.store.update((writer) => writer.remove(kind, key));
	}

	sync(...kinds: Kind[]) {
		this.store.update((writer) => {
			for (const kind of kinds.length > 0 ? kinds : KINDS) writer.setSynced(kind, true);
		});
	}

	attach(...endpoints: Endpoint[]) {
		this.endpoints.push(...endpoints);
		return this.policies.ready(endpoints[0]!);
	}

	ingress(address: string) {
		const one = this.kernel.endpointPolicies(address)?.ingress;
		if (one === undefined || one === NOT_READY) return "closed";
		return one === OPEN ? "open" : "judged";
	}
}

t.test("nothing is changed before every kind that policies are made of is known", async (t) => {
	const s = new Stage(t);
	s.isReady = false;
	s.put(NODE, pod("a"), DENY);
	const attached = s.attach(endpoint("a", "10.244.1.2"));
	s.sync();
	await s.policies.flush();
	t.equal(s.kernel.changes.length, 0, "no apply has written the endpoints");
	s.isReady = true;
	const later = new Stage(t);
	later.put(NODE, pod("a"), DENY);
	const waits = later.attach(endpoint("a", "10.244.1.2"));
	for (const kind of KINDS) {
		await later.policies.flush();
		t.equal(later.kernel.changes.length, 0, `without ${kind}`);
		later.sync(kind);
	}
	await waits;
	t.equal(later.ingress("10.244.1.2"), "judged");
	s.policies.request();
	await attached;
	t.equal(s.ingress("10.244.1.2"), "judged");
	t.match([...s.policies.local()], [{ networkPolicies: new Set(["x/deny"]), isKnown: true }]);
});

t.test(
	"a new Pod waits for its object: that with its UID, or the mirror of a static Pod",
	async (t) => {
		const s = new Stage(t);
		s.put(NODE, pod("a", { uid: "old" }), DENY);
		s.sync();
		let done = false;
		const attached = s.attach(endpoint("a", "10.244.1.2", "new")).then(() => {
			done = true;
		});
		await s.policies.flush();
		t.equal(
			s.ingress("10.244.1.2"),
			"closed",
			"the policies of another Pod of its name are not its",
		);
		t.equal(done, false);
		s.put(pod("a", { uid: "new" }));
		await attached;
		t.equal(s.ingress("10.244.1.2"), "judged");
		const config = { "kubernetes.io/config.mirror": "hash" };
		s.put(pod("static", { uid: "mirror", annotations: config }));
		await s.attach(endpoint("static", "10.244.1.3", "hash"));
		t.equal(s.ingress("10.244.1.3"), "judged");
	},
);

t.test(
	"a Pod that is not known is asked for once, and its ADD is to be tried again later",
	async (t) => {
		const s = new Stage(t, "closed", 30);
		s.put(NODE);
		s.sync();
		await t.rejects(s.attach(endpoint("a", "10.244.1.2", "u")), {
			code: ErrorCode.TRY_AGAIN_LATER,
			name: "CniError",
			message: "Cannot attach Pod x/a: its policies are not known",
			details: "The Pod is not known, or is another one than the runtime's.",
		} as Error);
		t.same(s.pods.fetched, ["x/a"]);
		t.equal(s.ingress("10.244.1.2"), "closed");
		s.pods.onFetch = (name) => s.put(pod(name, { uid: "v" }));
		await s.attach(endpoint("b", "10.244.1.3", "v"));
		t.same(s.pods.fetched, ["x/a", "x/b"], "asked");
		t.equal(s.ingress("10.244.1.3"), "open");
		const unsynced = new Stage(t, "closed", 30);
		unsynced.sync("Node", "Pod");
		await t.rejects(unsynced.attach(endpoint("a", "10.244.1.2")), {
			name: "CniError",
			message: "Cannot attach Pod x/a: its policies are not known",
			details:
				"Not yet read from the cluster: Namespace, NetworkPolicy, ClusterNetworkPolicy. `fairway status` names what cannot be read.",
		} as Error);
	},
);

t.test("with manifests, a Pod that none names has no labels", async (t) => {
	const s = new Stage(t, "unlabelled");
	const web = policy("web", {
		podSelector: { matchLabels: { app: "web" } },
		policyTypes: ["Ingress"],
	});
	s.put(NODE, web);
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2", "u"));
	t.equal(s.ingress("10.244.1.2"), "open");
	s.put(DENY);
	await s.policies.flush();
	t.equal(s.ingress("10.244.1.2"), "judged");
});

t.test(
	"what the kernel refuses holds up a new Pod and is a problem, until it is taken",
	async (t) => {
		const s = new Stage(t);
		s.put(NODE, pod("a"), DENY);
		s.sync();
		await s.policies.flush();
		s.kernel.refusal = "Cannot write policies entry 2: no memory";
		let done = false;
		const attached = s.attach(endpoint("a", "10.244.1.2")).then(() => {
			done = true;
		});
		await t.rejects(s.policies.flush(), { message: s.kernel.refusal });
		t.equal(done, false);
		t.ok(s.lines.includes("kernel refused writes of network policy"));
		s.kernel.refusal = "";
		await attached;
		t.equal(s.ingress("10.244.1.2"), "judged");
	},
);

t.test(
	"an address that goes is nobody's, and the next Pod there has its own policies",
	async (t) => {
		const s = new Stage(t);
		s.put(NODE, pod("a", { labels: { app: "a" } }), pod("b"));
		s.put(policy("a", { podSelector: { matchLabels: { app: "a" } }, policyTypes: ["Ingress"] }));
		s.sync();
		await s.attach(endpoint("a", "10.244.1.2"));
		t.equal(s.ingress("10.244.1.2"), "judged");
		s.endpoints = [];
		await s.policies.flush();
		t.equal(s.ingress("10.244.1.2"), "closed");
		await s.attach(endpoint("a", "10.244.1.2"));
		s.endpoints = [];
		await s.attach(endpoint("b", "10.244.1.2"));
		t.equal(s.ingress("10.244.1.2"), "open");
		t.equal(s.kernel.endpointPolicies("10.244.1.2")?.endpoint, "fairway-b-undefined");
	},
);

t.test("Pods of other Nodes are asked for while a policy of a local Pod names Pods", async (t) => {
	const s = new Stage(t);
	s.put(NODE, pod("a"), DENY);
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2"));
	t.equal(s.pods.wanted, false);
	t.equal(s.ingress("10.244.1.2"), "judged");
	const before = s.kernel.changes.length;
	s.put(FROM_PODS);
	await s.policies.flush();
	t.equal(s.pods.wanted, true);
	t.equal(s.kernel.changes.length, before, "what was in force stays until they are known");
	s.pods.told();
	await s.policies.flush();
	t.equal(s.kernel.changes.length, before + 1);
	s.remove("NetworkPolicy", "x/from");
	await s.policies.flush();
	t.equal(s.pods.wanted, false);
	const elsewhere = { ...FROM_PODS, metadata: { namespace: "y", name: "from" } };
	s.put(elsewhere);
	await s.policies.flush();
	t.equal(s.pods.wanted, false, "a policy of a namespace without local Pods asks for none");
	s.put(
		policy("named", {
			podSelector: {},
			policyTypes: ["Egress"],
			egress: [{ ports: [{ port: "web" }] }],
		}),
	);
	await s.policies.flush();
	t.equal(s.pods.wanted, true, "ports have the names that destinations give them");
});

t.test("a turn that fails begins anew beside what the kernel holds", async (t) => {
	const s = new Stage(t);
	s.put(NODE, pod("a"), DENY);
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2"));
	const before = s.kernel.endpointPolicies("10.244.1.2")?.ingress;
	let fails = true;
	const change = s.kernel.changePolicies.bind(s.kernel);
	s.kernel.changePolicies = (changes) => {
		if (!fails || changes === undefined) return change(changes);
		fails = false;
		return Promise.reject(new Error("a fault of the agent's"));
	};
	s.put(pod("b"));
	await t.rejects(s.policies.flush(), { message: "a fault of the agent's" });
	await s.policies.flush();
	t.equal(s.ingress("10.244.1.2"), "judged");
	const after = s.kernel.endpointPolicies("10.244.1.2")?.ingress;
	t.ok(after !== undefined && after !== before, "under another id");
	await until("former ones are removed", async () => {
		await s.policies.flush();
		return s.kernel.evaluator.tables.policies.size === 1;
	});
});

t.test("tables that others have changed are compiled anew beside what is left", async (t) => {
	const s = new Stage(t);
	s.put(NODE, pod("a"), DENY);
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2"));
	const { policies } = s.kernel.evaluator.tables;
	policies.clear();
	s.kernel.disturbed();
	t.equal(s.ingress("10.244.1.2"), "judged", "nothing opens");
	await s.policies.flush();
	const { ingress } = s.kernel.endpointPolicies("10.244.1.2")!;
	t.ok(policies.has(ingress), "its policies are there again");
});

t.test("refused policies of one Pod are named, and others' are in force", async (t) => {
	const s = new Stage(t);
	s.put(NODE, pod("a", { labels: { app: "a" } }), pod("b"));
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2"));
	await s.attach(endpoint("b", "10.244.1.3"));
	const change = s.kernel.changePolicies.bind(s.kernel);
	let refuses = true;
	s.kernel.changePolicies = async (changes) => {
		if (!refuses || changes === undefined) return change(changes);
		const isHeld = ({ table, key }: { table: string; key: unknown }) =>
			table === "endpointPolicies" && key === "10.244.1.2";
		const writes = [...changes.writes].filter((one) => !isHeld(one));
		const outcome = await change({ ...changes, writes });
		return {
			...{ ...outcome, problems: ["no room"], held: new Set(["fairway-a-undefined"]) },
			inUse: new Set([7]),
		};
	};
	const only = (name: string) =>
		policy(name, { podSelector: { matchLabels: { app: name } }, policyTypes: ["Ingress"] });
	s.put(only("a"));
	await t.rejects(s.policies.flush(), { message: "no room" });
	t.same(s.policies.problems(), [
		"The kernel refuses the new policies of x/a: the last ones stay, a new Pod is closed",
	]);
	t.match([...s.policies.local()], [{ ingress: OPEN }, { ingress: OPEN }], "what is in force");
	s.put(pod("b", { labels: { app: "b" } }), only("b"));
	await t.rejects(s.policies.flush());
	t.equal(s.ingress("10.244.1.3"), "judged");
	t.equal(s.ingress("10.244.1.2"), "open", "its last policies");
	refuses = false;
	s.put(only("c"));
	await s.policies.flush();
	t.same(s.policies.problems(), []);
});

t.test("changes are timed, and what rules have counted is read before they go", async (t) => {
	const s = new Stage(t);
	s.put(NODE, pod("a"));
	s.sync();
	await s.attach(endpoint("a", "10.244.1.2"));
	t.equal(s.took.length, 0, "what there is at the start has not changed just now");
	t.match(s.policies.usage, { policies: 0, policyVerdicts: 0, portSets: 0, rules: 0 });
	s.put(DENY);
	await s.policies.flush();
	t.equal(s.took.length, 1);
	t.ok(s.took[0]! >= 0 && s.took[0]! < 60);
	const [usage, revision] = [s.policies.usage, s.policies.revision];
	t.match(usage, { policies: 1, rules: 1 });
	s.put({ kind: "Namespace", metadata: { name: "elsewhere" } } as never);
	await s.policies.flush();
	t.equal(s.took.length, 1, "a change that writes nothing");
	t.ok(s.policies.revision > revision);
	s.remove("NetworkPolicy", "x/deny");
	await until("its rule goes", () => s.policies.rules().size === 0);
	t.strictSame(s.going, [1], "it was still known then");
});

t.test("an agent that stops lets no ADD wait", async (t) => {
	const s = new Stage(t);
	s.put(NODE);
	s.sync();
	const attached = s.attach(endpoint("a", "10.244.1.2"));
	await s.policies.flush();
	await s.policies.stop();
	await t.rejects(attached, CniError);
});
