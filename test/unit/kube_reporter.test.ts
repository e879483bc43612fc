/** What an agent writes to the API: its taint, its condition, Events. */
import t, { type Test } from "tap";
import { readObject } from "../../src/cluster/kinds.js";
import type { ObjectNotice, PathNotice } from "../../src/cluster/reporter.js";
import { Store } from "../../src/cluster/store.js";
import type { KubernetesReporter } from "../../src/kube/kubernetes_reporter.js";
import { ObjectNotices } from "../../src/kube/object_notices.js";
import { type NoticeEvent, PathNotices } from "../../src/kube/path_notices.js";
import { problemNotices } from "../../src/report/problem_objects.js";
import { node, Site } from "../tools/fake_api/site.js";
import { TestClock } from "../tools/fake_api/test_clock.js";

const TAINT = { key: "fairway.dev/agent-not-ready", effect: "NoSchedule" };
const OTHER = { key: "example.org/other", effect: "NoExecute" };

function condition(status: string, reason: string) {
	return { conditions: [{ type: "NetworkUnavailable", status, reason }] };
}

async function started(t: Test, object: object) {
	const site = new Site(t);
	site.cluster.put("nodes", { ...node("n1", 1), ...object });
	const server = await site.server();
	site.reach(server);
	await site.start();
	await site.until("the first sync", () => site.synced);
	const { reporter } = site.source as { reporter: KubernetesReporter };
	const patches = () => server.requests.filter(({ method }) => method === "PATCH");
	const present = () =>
		site.cluster.get("nodes", "n1") as unknown as {
			spec: { taints?: unknown };
			status: { conditions?: { status: string; reason: string }[] };
		};
	return { site, server, reporter, patches, present };
}

t.test("the start-up taint is taken off this Node when packets flow, others stay", async (t) => {
	const { site, reporter, patches, present } = await started(t, {
		spec: { taints: [OTHER, TAINT] },
	});
	await site.clock.advance(120_000);
	t.equal(patches().length, 0, "not before");
	reporter.ready(false);
	await site.until("it is off", () => patches().length > 0);
	t.strictSame(present().spec.taints, [OTHER]);
	await site.until("another look", () => site.clock.now() > 400_000, 1000);
	t.equal(patches().length, 1, "and nothing else is written");
	// A Node that registers anew has it again.
	site.cluster.remove("nodes", "n1");
	site.cluster.put("nodes", { ...node("n1", 1), spec: { taints: [TAINT] } });
	await site.until("it is off again", () => patches().length > 1, 1000);
	t.strictSame(present().spec.taints, []);
	t.strictSame(
		site.problems.filter((problem) => !/pod CIDRs/.test(problem)),
		[],
	);
});

t.test(
	"NetworkUnavailable is set to False where no routes are needed, unless routes decide it",
	async (t) => {
		const rows: [what: string, tunnelled: boolean, status: object, after: string | undefined][] = [
			["somebody's, in encap", true, condition("True", "Cloud"), "False FairwayIsUp"],
			["the route controller's", true, condition("True", "NoRouteCreated"), "True NoRouteCreated"],
			["with routes in the network", false, condition("True", "Cloud"), "True Cloud"],
			["False already", true, condition("False", "Cloud"), "False Cloud"],
			["nobody's", true, {}, undefined],
		];
		for (const [what, tunnelled, status, after] of rows) {
			const { site, server, reporter, present } = await started(t, { status });
			reporter.ready(tunnelled);
			const looks = () => server.requests.filter(({ path }) => path === "/api/v1/nodes/n1").length;
			await site.until("two looks", () => looks() >= 2, 1000);
			const { conditions } = present().status;
			const [found] = conditions ?? [];
			t.equal(found && `${found.status} ${found.reason}`, after, what);
		}
	},
);

t.test("a right that is missing is one problem, and what it is for is tried again", async (t) => {
	const { site, server, reporter, patches } = await started(t, { spec: { taints: [TAINT] } });
	const message = "nodes is forbidden";
	server.answer(/^(PATCH|POST)/, {
		status: 403,
		body: JSON.stringify({ kind: "Status", message }),
	});
	reporter.ready(true);
	const notice: PathNotice = {
		peer: "n2",
		family: 4,
		from: "direct",
		to: "down",
		reason: "Silence.",
	};
	reporter.pathsChanged([notice]);
	const own = () => site.problems.filter((problem) => /403/.test(problem)).sort();
	await site.until("the problems", () => own().length === 2);
	t.strictSame(own(), [
		"Cannot take the taint fairway.dev/agent-not-ready off this Node: the API server answered 403: nodes is forbidden",
		"Cannot write Events: the API server answered 403: nodes is forbidden",
	]);
	await site.until("a minute", () => patches().length > 2, 1000);
	t.equal(own().length, 2);
	server.mend();
	reporter.pathsChanged([{ ...notice, peer: "n3" }]);
	await site.until("they are gone", () => own().length === 0, 1000);
});

t.test("an Event of a path change, as kubectl shows it with the Node", async (t) => {
	const { site, server, reporter } = await started(t, {});
	reporter.pathsChanged([
		{ peer: "n2", family: 4, from: "direct", to: "geneve", reason: "Probes are lost." },
	]);
	await site.until("it is written", () => site.cluster.list("events").length === 1);
	t.match(site.cluster.list("events"), [
		{
			apiVersion: "events.k8s.io/v1",
			metadata: { name: /^n1\.[0-9a-f]{16}$/, namespace: "default" },
			eventTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
			reportingController: "fairway.dev/agent",
			reportingInstance: "n1",
			regarding: { kind: "Node", name: "n1" },
			type: "Warning",
			reason: "PathFallback",
			note: "Path to Node n2. IPv4 direct to geneve: Probes are lost.",
		},
	]);
	t.equal(server.requests.at(-1)?.headers["content-type"], "application/json");
});

t.test("path changes are told once a minute and peer, and within a budget", async (t) => {
	const clock = new TestClock();
	const events: NoticeEvent[] = [];
	const notices = new PathNotices(clock, (event) => events.push(event));
	const change = (peer: string, from: string, to: string, family: 4 | 6 = 4): PathNotice => {
		return { peer, family, from, to, reason: "Why." };
	};
	const taken = () => events.splice(0).map(({ type, reason, note }) => `${type} ${reason} ${note}`);
	notices.add([change("n2", "direct", "geneve"), change("n2", "direct", "geneve", 6)]);
	await clock.advance(2000);
	t.strictSame(taken(), [
		"Warning PathFallback Path to Node n2. IPv4 direct to geneve: Why. IPv6 direct to geneve: Why.",
	]);
	for (let i = 0; i < 10; i++) {
		notices.add([change("n2", "geneve", "direct"), change("n2", "direct", "geneve")]);
		await clock.advance(1000);
	}
	notices.add([change("n2", "geneve", "direct")]);
	t.strictSame(taken(), [], "within the minute");
	await clock.advance(60_000);
	t.strictSame(taken(), [
		"Normal PathRestored Path to Node n2, 21 changes. IPv4 geneve to direct: Why.",
	]);
	await clock.advance(120_000);
	const all = Array.from({ length: 5000 }, (_, i) => change(`p${i}`, "direct", "down"));
	for (let i = 0; i < 30; i++) {
		notices.add(all);
		await clock.advance(2000);
	}
	const told = taken();
	t.ok(told.length <= 12, `${told.length} Events in a minute`);
	t.match(told[0], /^Warning PathDown Path to Node p0\. IPv4 direct to down: Why\.$/);
	t.match(
		told[10],
		/^Warning PathsChanged The paths to 4990 more Nodes have changed, 4990 of them are down/,
	);
	notices.close();
	t.notOk(clock.isDue(1e9), "no timer is left");
});

const refused = (name: string, message = "why", kind = "Service"): ObjectNotice => ({
	object: { apiVersion: "v1", kind, namespace: "web", name, uid: `u-${name}` },
	...{ reason: "ServiceNotServed", message },
});

t.test("an object that cannot be used has an Event in its namespace", async (t) => {
	const { site, server, reporter } = await started(t, {});
	const events = () => server.requests.filter(({ path }) => path.endsWith("/events"));
	reporter.objectsRefused([refused("front", "Cannot serve it"), refused("front", "Nor this")], []);
	await site.until("the Event", () => events().length === 1);
	t.match(events()[0]?.path, "/namespaces/web/events");
	t.match(JSON.parse(events()[0]!.body), {
		...{ type: "Warning", reason: "ServiceNotServed", action: "UseObject" },
		note: "Cannot serve it. Nor this.",
		regarding: { kind: "Service", namespace: "web", name: "front", uid: "u-front" },
	});
});

t.test("Events of objects are told once, again every hour, and within a budget", async (t) => {
	const clock = new TestClock();
	const told: string[] = [];
	const notices = new ObjectNotices(clock, "n1", ({ object, note }) =>
		told.push(`${object.name}: ${note}`),
	);
	notices.update([refused("a")], []);
	notices.update([], []);
	await clock.advance(10_000);
	t.strictSame(told, [], "what is gone at once is not told");
	notices.update([refused("a")], []);
	await clock.advance(10_000);
	notices.update([refused("a")], []);
	await clock.advance(30 * 60_000);
	t.strictSame(told, ["a: why."]);
	notices.update([refused("a", "else")], []);
	await clock.advance(60_000);
	t.strictSame(told.splice(0), ["a: why.", "a: else."], "other words after ten minutes");
	for (let i = 0; i < 10; i++) {
		notices.update([refused("a", `else ${i}`)], []);
		await clock.advance(20_000);
	}
	t.strictSame(told, [], "not with every change");
	await clock.advance(3600_000);
	t.ok(told.length >= 1 && told.length <= 2, "while it lasts");
	notices.update(
		Array.from({ length: 30 }, (_, i) => refused(`s${i}`)),
		[],
	);
	told.length = 0;
	await clock.advance(50_000);
	t.ok(told.length <= 10, `${told.length} in a minute`);
	await clock.advance(10 * 60_000);
	t.equal(new Set(told).size, 30, "all of them");
	notices.close();
	t.notOk(clock.isDue(1e12), "no timer is left");
});

t.test("of many Nodes two tell of an object that all know, its own of a Pod", async (t) => {
	const nodes = Array.from({ length: 40 }, (_, i) => `n${i}`);
	const objects = ["a", "b", "c"].map((name) => refused(name));
	const told = new Map<string, number>();
	for (const node of nodes) {
		const clock = new TestClock();
		const notices = new ObjectNotices(clock, node, ({ object: { kind, name } }) =>
			told.set(`${kind} ${name}`, (told.get(`${kind} ${name}`) ?? 0) + 1),
		);
		notices.update([...objects, refused("p", "why", "Pod")], nodes);
		await clock.advance(10_000);
		notices.close();
	}
	t.strictSame(Object.fromEntries(told), {
		...{ "Service a": 2, "Service b": 2, "Service c": 2, "Pod p": 40 },
	});
});

t.test("problems name the objects that they are about", async (t) => {
	const store = new Store();
	const service = {
		...{ kind: "Service", metadata: { namespace: "x", name: "web", uid: "u1" } },
		spec: { clusterIP: "10.96.0.9", ports: [{ port: 80 }] },
	};
	store.update((writer) => {
		const reading = readObject("Service", service);
		if ("record" in reading) writer.put("Service", "x/web", reading.record as never);
	});
	const rows: [problem: string, object: string | undefined, reason?: string][] = [
		[
			"Cannot serve NodePort 30080 of Service x/web: Service y/other has it",
			"Service x/web u1",
			"ServiceNotServed",
		],
		["Cannot accept Service x/none: expected a mapping as spec, got a string", "Service x/none "],
		["Cannot use endpoint 0.0.0.0 of Service x/web: it is nobody's", "Service x/web u1"],
		[
			"Cannot use EndpointSlice x/web-1: expected one family",
			"EndpointSlice x/web-1 ",
			"EndpointsNotUsed",
		],
		[
			"Cannot accept NetworkPolicy x/p: expected Ingress or Egress",
			"NetworkPolicy x/p ",
			"PolicyNotUsable",
		],
		["p.yaml: Cannot accept ClusterNetworkPolicy base: bad", "ClusterNetworkPolicy /base "],
		[
			"Cannot enforce the ingress policies of x/a-1.b: expected at most 10 rules, got 11",
			"Pod x/a-1.b ",
			"PolicyNotEnforced",
		],
		["Cannot accept NetworkPolicy without a usable name: none", undefined],
		["Cannot serve all Services: there are 3 more problems like these", undefined],
		["Cannot accept Node n1: its pod CIDRs overlap", undefined],
	];
	for (const [problem, wanted, reason] of rows) {
		const [notice] = problemNotices([problem], store);
		const { kind, namespace = "", name, uid = "" } = notice?.object ?? { kind: "", name: "" };
		t.equal(notice && `${kind} ${namespace}/${name} ${uid}`, wanted, problem);
		if (reason !== undefined) t.equal(notice?.reason, reason);
	}
});

t.test(
	"a Pod that asks for a bandwidth limit has an Event; many of them have no more",
	async (t) => {
		const { site, server, reporter } = await started(t, {});
		const events = () =>
			server.requests
				.filter(({ method, path }) => method === "POST" && path.endsWith("/events"))
				.map(({ path, body }) => ({ path, event: JSON.parse(body) }));
		reporter.bandwidthUnlimited({ namespace: "web", name: "front", uid: "u1" });
		await site.until("the Event", () => events().length === 1);
		t.match(events()[0], {
			path: "/apis/events.k8s.io/v1/namespaces/web/events",
			event: {
				metadata: { namespace: "web", name: /^front\./ },
				...{ type: "Warning", reason: "BandwidthUnlimited", action: "AttachPod" },
				regarding: { kind: "Pod", namespace: "web", name: "front", uid: "u1" },
			},
		});
		for (let i = 0; i < 50; i++) reporter.bandwidthUnlimited({ namespace: "web", name: `p${i}` });
		await site.clock.advance(10_000);
		await site.until("as many as a minute has", () => events().length === 10);
		await site.clock.advance(60_000);
		t.equal(events().length, 10);
		reporter.bandwidthUnlimited({ namespace: "web", name: "later" });
		await site.until("in the next minute again", () => events().length === 11);
	},
);
