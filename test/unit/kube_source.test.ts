/** The Kubernetes API as a source, against an API server that misbehaves on command. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { ServiceCatalog } from "../../src/cluster/service_catalog.js";
import { type ApiObject, type FakeCluster, SERVED } from "../tools/fake_api/cluster.js";
import { Relay } from "../tools/fake_api/relay.js";
import { type FakeAnswer, FakeServer } from "../tools/fake_api/server.js";
import { node, pod, Site } from "../tools/fake_api/site.js";

/** Two Nodes, a Service, a range for Services, a Pod here and one elsewhere; synced and watched. */
async function started(
	t: Test,
	change: (server: FakeServer, site: Site) => void = () => undefined,
) {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server();
	site.reach(server);
	change(server, site);
	await site.start();
	await site.until("the first sync", () => site.synced);
	return { site, server, cluster: site.cluster };
}

function fill(cluster: FakeCluster): void {
	cluster.put("nodes", node("n1", 1));
	cluster.put("nodes", node("n2", 2));
	cluster.put("servicecidrs", {
		metadata: { name: "kubernetes" },
		spec: { cidrs: ["10.96.0.0/12"] },
	});
	cluster.put("services", service("web", "192.0.2.1"));
	cluster.put("pods", pod("default", "here", "n1"));
	cluster.put("pods", pod("default", "elsewhere", "n2"));
}

function service(name: string, ...externalIPs: string[]): ApiObject {
	return { metadata: { namespace: "default", name }, spec: { externalIPs } };
}

t.test("lists are streamed, own Pods selected, and what changes is followed", async (t) => {
	const { site, server, cluster } = await started(t);
	await site.until("watches", () => site.live);
	t.equal(site.keys("Node"), "n1 n2");
	t.equal(site.keys("Pod"), "default/here", "other Nodes' Pods are not asked for");
	t.equal(site.keys("ServiceCIDR"), "kubernetes");
	t.match(site.store.get("Service", "default/web"), { externalIPs: ["192.0.2.1"] });
	t.match(server.requestsFor("nodes"), [
		/sendInitialEvents=true.*resourceVersionMatch=NotOlderThan/,
	]);
	t.match(server.requestsFor("pods"), [
		/^fieldSelector=spec.nodeName%3Dn1&resourceVersion=0$/,
		/^fieldSelector=.*&watch=1&resourceVersion=\d+/,
	]);
	t.equal(server.connections, 1, "all on one connection");
	cluster.put("nodes", node("n3", 3));
	await site.until("a new Node", () => site.keys("Node") === "n1 n2 n3");
	cluster.put("nodes", node("n3", 4));
	await site.until("a change", () => site.store.get("Node", "n3")?.podCIDRs[0] === "10.244.4.0/24");
	cluster.remove("nodes", "n2");
	await site.until("a deletion", () => site.keys("Node") === "n1 n3");
	t.strictSame(site.problems, []);
	t.match(site.facts("Node"), { kind: "Node", synced: true, stale: false, reconnects: 0 });
});

t.test("servers without streamed lists are asked for pages", async (t) => {
	for (const streams of ["refused", "ignored"] as const) {
		const { site, server } = await started(t, (server, { cluster }) => {
			server.streams = streams;
			for (let i = 3; i < 1203; i++)
				cluster.put("nodes", {
					...node(`n${i}`, 1),
					spec: { podCIDRs: [`10.${i >> 8}.${i & 255}.0/24`] },
					status: {},
				});
		});
		t.equal([...site.store.keys("Node")].length, 1202, streams);
		const pages = server.requestsFor("nodes", /^limit=500/);
		t.match(pages, ["limit=500", /continue=500/, /continue=1000/], "500 at a time");
		t.equal(server.requestsFor("pods", /limit/).length, 0);
		await site.until("a watch of each", () => site.live);
		t.match(server.requestsFor("nodes").at(-1), /^watch=1&resourceVersion=\d+/);
	}
});

t.test("a list that breaks off changes nothing", async (t) => {
	const { site, server, cluster } = await started(t);
	for (const streams of [true, "refused"] as const) {
		server.streams = streams;
		server.breakAfter = 1;
		cluster.put("nodes", node("n4", 4));
		await site.until("it is known", () => site.keys("Node").includes("n4"));
		cluster.put("services", service("other"));
		cluster.compact();
		await site.clock.advance(2000);
		server.endWatches("nodes");
		await site.until("it was tried", () => site.problems.length > 0);
		t.match(site.keys("Node"), /^n1 n2 .*n4/, "all are there");
		server.breakAfter = undefined;
		cluster.remove("nodes", "n4");
		await site.until("the whole list", () => !site.keys("Node").includes("n4"));
		t.equal(site.keys("Node"), "n1 n2");
		await site.until("a watch", () => site.live);
		t.strictSame(site.problems, []);
	}
});

t.test("410 Gone: what went during the gap is removed", async (t) => {
	for (const goneAs of ["status", "event"] as const) {
		const { site, server, cluster } = await started(t);
		server.goneAs = goneAs;
		server.answer(/GET .*nodes.*watch=1/, ...Array(3).fill({ status: 503 }), undefined);
		server.endWatches("nodes");
		await site.until("the gap", () => !server.watched("nodes"));
		cluster.remove("nodes", "n2");
		cluster.put("nodes", node("n3", 3));
		cluster.compact();
		await site.until("the new list", () => site.keys("Node") === "n1 n3");
		await site.until("a watch", () => site.live);
		t.ok(server.requestsFor("nodes", /sendInitialEvents/).length >= 2, goneAs);
		t.ok(site.facts("Node").reconnects >= 1);
		t.strictSame(site.problems, []);
	}
});

t.test("a watch goes on from the last event or bookmark", async (t) => {
	const { site, server, cluster } = await started(t);
	const from = (plural: string) => server.requestsFor(plural, /^watch=1&resourceVersion/).at(-1);
	cluster.put("nodes", node("n3", 3));
	const version = cluster.version;
	await site.until("an event", () => site.keys("Node") === "n1 n2 n3");
	await site.clock.advance(2000);
	server.endWatches("nodes");
	await site.until("another watch", () => server.watched("nodes"));
	t.match(from("nodes"), `resourceVersion=${version}&`);
	for (let i = 0; i < 10; i++) cluster.put("services", service("web", `192.0.2.${i + 2}`));
	const heard = site.facts("Node").ageSeconds;
	server.bookmark("nodes");
	await site.until("the bookmark", () => (site.facts("Node").ageSeconds ?? 0) < (heard ?? 0), 0);
	cluster.compact();
	server.endWatches("nodes");
	await site.until("another watch", () => server.watched("nodes"));
	t.match(from("nodes"), `resourceVersion=${cluster.version}&`, "as the bookmark said");
	t.equal(server.requestsFor("nodes", /sendInitialEvents/).length, 1, "never listed again");
	t.equal(site.facts("Node").reconnects, 0, "ends that were agreed");
});

t.test("a watch that ends with an error is resumed, and what came meanwhile is seen", async (t) => {
	const { site, server, cluster } = await started(t);
	const status = { kind: "Status", status: "Failure", code: 500, message: "internal" };
	server.tell("nodes", JSON.stringify({ type: "ERROR", object: status }));
	cluster.put("nodes", node("n2", 2, { metadata: { name: "n2", labels: { zone: "b" } } }));
	await site.until("the change", () => site.store.get("Node", "n2")?.labels?.[1] === "b");
});

t.test("watches that end at once are begun again later and later", async (t) => {
	const { site, server } = await started(t);
	server.answer(/GET .*nodes.*watch=1/, { status: 200 });
	server.endWatches("nodes");
	await site.until("a problem", () => site.problems.length > 0);
	const before = server.requestsFor("nodes").length;
	await site.clock.advance(60_000);
	for (let i = 0; i < 100; i++) await site.clock.advance(100);
	const attempts = server.requestsFor("nodes").length - before;
	t.ok(attempts <= 20, `${attempts} attempts in a minute`);
	t.match(site.problems, [/^Cannot watch Nodes: each watch ends at once; what is known/]);
	server.mend();
	await site.until("a watch", () => site.live);
	t.strictSame(site.problems, []);
});

t.test("a dead connection is found by a ping, and watches resume", async (t) => {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server();
	const relay = await new Relay(() => server.port).start();
	t.teardown(() => relay.stop());
	site.access = { servers: [new URL(relay.url)], ca: server.authority.certificate };
	await site.start();
	await site.until("the first sync", () => site.synced && site.live);
	relay.silence();
	site.cluster.put("nodes", node("n3", 3));
	await site.clock.advance(10_000);
	t.ok(site.live, "not yet");
	await site.clock.advance(5000);
	await site.until("it is given up", () => !site.live, 1);
	t.equal(site.keys("Node"), "n1 n2");
	relay.silence(false);
	await site.until("the change in the gap", () => site.keys("Node") === "n1 n2 n3");
	t.equal(server.requestsFor("nodes", /sendInitialEvents/).length, 1, "from where it was");
	t.equal(site.facts("Node").reconnects, 1);
});

t.test("an idle connection that answers pings stays", async (t) => {
	const { site, server } = await started(t);
	const requests = server.requests.length;
	for (let i = 0; i < 12; i++) await site.until("time", () => !site.clock.isDue(1000), 1000);
	t.equal(server.requests.length, requests);
	t.ok(site.live);
});

t.test("the next server is asked when one is gone, and its addresses are learned", async (t) => {
	const { site, server, cluster } = await started(t);
	const second = await site.server({
		authority: server.authority,
		names: ["kubernetes.default.svc"],
	});
	const endpoints = [server, second].map(() => ({ addresses: ["127.0.0.1"] }));
	for (const [i, { port }] of [server, second].entries())
		cluster.put("endpointslices", {
			metadata: {
				...{ namespace: "default", name: `kubernetes-${i}` },
				labels: { "kubernetes.io/service-name": "kubernetes" },
			},
			addressType: "IPv4",
			ports: [{ name: "https", port }],
			endpoints: endpoints.slice(i, i + 1),
		});
	await site.until("both are known", () => site.source!.client.servers.length === 2);
	await server.stop();
	cluster.put("nodes", node("n3", 3));
	await site.until("the second server", () => site.keys("Node") === "n1 n2 n3" && site.live);
	t.ok(second.requests.length > 0, "whose certificate has only the common name");
	await site.stop();
	// Only the first is configured, and it is gone.
	await site.start();
	await site.until("the second server again", () => site.synced);
});

t.test("a server that was replaced has its new authority read again", async (t) => {
	const { site, server, cluster } = await started(t);
	const { port } = server;
	await server.stop();
	const replaced = await new FakeServer(cluster).start(port);
	t.teardown(() => replaced.stop());
	cluster.put("nodes", node("n3", 3));
	await site.until("a problem", () => /certificate/.test(site.problems.join()));
	t.equal(site.keys("Node"), "n1 n2", "nothing is believed");
	site.reach(replaced);
	await site.until("the new server", () => site.keys("Node") === "n1 n2 n3");
	t.strictSame(site.problems, []);
});

t.test("GOAWAY: watches end in peace, new requests use a new connection", async (t) => {
	const { site, server, cluster } = await started(t);
	server.goaway();
	cluster.put("nodes", node("n3", 3));
	await site.until("the old watch goes on", () => site.keys("Node") === "n1 n2 n3");
	for (const plural of Object.keys(SERVED)) server.endWatches(plural);
	await site.until("new watches", () => server.watched("nodes") && server.watched("pods"));
	cluster.put("nodes", node("n4", 4));
	await site.until("they serve", () => site.keys("Node") === "n1 n2 n3 n4");
	await site.until("the old connection is gone", () => server.connections === 1);
	t.equal(site.facts("Node").reconnects, 0);
});

t.test(
	"a server that lags behind is waited for; after three times what it has counts",
	async (t) => {
		const { site, server, cluster } = await started(t);
		const second = await site.server({ authority: server.authority });
		second.seen = cluster.version;
		site.reach(server, second);
		cluster.put("nodes", node("n3", 3));
		await site.until("the change", () => site.keys("Node") === "n1 n2 n3");
		await server.stop();
		await site.until("it was asked", () => second.requestsFor("nodes", /^watch/).length >= 2);
		t.equal(site.keys("Node"), "n1 n2 n3", "no step back in time");
		second.catchUp();
		await site.until("a watch", () => site.live);
		t.equal(second.requestsFor("nodes", /sendInitialEvents/).length, 0, "not listed again");
		// For ever behind: its store may have been restored.
		second.seen = cluster.version - 1;
		second.endWatches("nodes");
		await site.until("what it has", () => site.keys("Node") === "n1 n2");
	},
);

t.test(
	"a store restored from an older copy is compared, whatever the server answers",
	async (t) => {
		for (const tooLarge of [true, false]) {
			const { site, server, cluster } = await started(t);
			const copy = cluster.copy();
			cluster.put("nodes", node("n3", 3));
			cluster.remove("nodes", "n2");
			await site.until("the changes", () => site.keys("Node") === "n1 n3");
			const { port } = server;
			await server.stop();
			cluster.restore(copy);
			const restored = await new FakeServer(cluster, { authority: server.authority }).start(port);
			t.teardown(() => restored.stop());
			restored.tooLarge = tooLarge;
			await site.until("the older state", () => site.keys("Node") === "n1 n2");
			await site.until("a watch", () => site.live);
			cluster.put("nodes", node("n4", 4));
			await site.until("what comes then", () => site.keys("Node") === "n1 n2 n4");
		}
	},
);

t.test("429 and 503 are tried again when the server says", async (t) => {
	const { site, server } = await started(t, (server) => {
		const busy = { status: 429, headers: { "retry-after": "20" }, body: "{}" };
		server.answer(/services/, busy, busy, undefined);
	}).catch((error) => Promise.reject(error));
	t.ok(site.synced);
	const asked = server.requestsFor("services").length;
	t.equal(asked, 3, "two refusals, a list");
	t.ok(site.clock.now() >= 1000 + 2 * 20_000 * 0.8, `${site.clock.now()} ms`);
});

t.test("an expired token is read again at once; a refused one is a problem", async (t) => {
	const { site, server } = await started(t, (server, site) => {
		server.token = "old";
		Object.assign(site.access, { token: "old" });
	});
	site.access = { ...(site.access as object), token: "new" } as typeof site.access;
	server.token = "new";
	await site.clock.advance(2000);
	server.endWatches("nodes");
	await site.until("a watch", () => server.watched("nodes") && site.live);
	t.strictSame(site.problems, []);
	server.token = "newer";
	await site.clock.advance(2000);
	server.endWatches("nodes");
	await site.until("a problem", () => site.problems.length > 0);
	t.match(site.problems, [/^Cannot watch Nodes: the API server answered 401: Unauthorized/]);
	site.access = { ...(site.access as object), token: "newer" } as typeof site.access;
	await site.until("a watch", () => site.live && site.problems.length === 0);
});

t.test("a kind without permission, or not served, leaves the others alone", async (t) => {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server();
	site.reach(server);
	server.served.delete("servicecidrs");
	const message = 'services is forbidden: User "fairway" cannot list resource "services"';
	const forbidden = { status: 403, body: JSON.stringify({ kind: "Status", message }) };
	server.answer(/GET .*services/, forbidden);
	await site.start();
	await site.until("the others", () =>
		["Node", "Pod", "ServiceCIDR"].every((kind) => site.facts(kind).synced),
	);
	t.match(site.problems, [
		/^Cannot watch Services: the API server answered 403: services is forbidden/,
	]);
	t.match(site.facts("Service"), { synced: false, stale: true });
	t.match(site.facts("ServiceCIDR"), { synced: true, stale: false }, "there are none");
	site.cluster.put("nodes", node("n3", 3));
	await site.until("they go on", () => site.keys("Node") === "n1 n2 n3");
	server.mend();
	server.served.add("servicecidrs");
	await site.until("both come", () => site.synced && site.keys("ServiceCIDR") !== "", 1000);
	t.strictSame(site.problems, []);
});

t.test(
	"ClusterNetworkPolicies of either version, and a definition that is installed late",
	async (t) => {
		const site = new Site(t);
		fill(site.cluster);
		const server = await site.server();
		site.reach(server);
		const absent = { status: 404, body: "404 page not found\n" };
		server.answer(/policy.networking.k8s.io/, ...Array.from({ length: 6 }, () => absent));
		await site.start();
		await site.until("there are none", () => site.facts("ClusterNetworkPolicy").synced);
		t.strictSame(site.problems, [], "no fault");
		server.mend();
		server.answer(/v1beta1.clusternetworkpolicies/, absent);
		site.cluster.put("clusternetworkpolicies", {
			metadata: { name: "c" },
			spec: { tier: "Admin", priority: 1, subject: { namespaces: {} } },
		});
		await site.until("it comes", () => site.keys("ClusterNetworkPolicy") === "c", 1000);
		server.endWatches("clusternetworkpolicies");
		await site.until("a watch again", () => site.live && site.problems.length === 0);
	},
);

t.test("a definition that is installed later is found at once, in either version", async (t) => {
	for (const [version, missing] of [
		["v1alpha2", "v1beta1"],
		["v1beta1", "v1alpha2"],
	] as const) {
		const site = new Site(t);
		fill(site.cluster);
		const server = await site.server();
		site.reach(server);
		const absent = { status: 404, body: "404 page not found\n" };
		server.answer(/policy.networking.k8s.io.v1/, absent);
		await site.start();
		await site.until("there are none", () => site.facts("ClusterNetworkPolicy").absent);
		await site.until("the definition is watched", () =>
			server.watched("customresourcedefinitions"),
		);
		const policy = { tier: "Admin", priority: 1, subject: { namespaces: {} } };
		site.cluster.put("clusternetworkpolicies", { metadata: { name: "c" }, spec: policy });
		server.mend();
		server.answer(new RegExp(`policy.networking.k8s.io.${missing}`), absent);
		const name = "clusternetworkpolicies.policy.networking.k8s.io";
		const asked = site.clock.now();
		site.cluster.put("customresourcedefinitions", { metadata: { name } });
		await site.until(version, () => site.keys("ClusterNetworkPolicy") === "c", 100);
		t.ok(site.clock.now() - asked < 10_000, `${version}: ${site.clock.now() - asked} ms`);
		t.match(site.facts("ClusterNetworkPolicy"), { absent: false, stale: false });
		await site.stop();
	}
});

t.test(
	"a definition that may not be watched is no problem, and is found within a minute",
	async (t) => {
		const site = new Site(t);
		fill(site.cluster);
		const server = await site.server();
		site.reach(server);
		server.served.delete("clusternetworkpolicies");
		const body = JSON.stringify({ kind: "Status", message: "forbidden" });
		server.answer(/customresourcedefinitions/, { status: 403, body });
		await site.start();
		await site.until("there are none", () => site.facts("ClusterNetworkPolicy").absent);
		t.strictSame(site.problems, []);
		server.served.add("clusternetworkpolicies");
		site.cluster.put("clusternetworkpolicies", {
			metadata: { name: "c" },
			spec: { tier: "Admin", priority: 1, subject: { namespaces: {} } },
		});
		const asked = site.clock.now();
		await site.until("it comes", () => site.keys("ClusterNetworkPolicy") === "c", 1000);
		t.ok(site.clock.now() - asked <= 80_000, `${site.clock.now() - asked} ms`);
	},
);

t.test(
	"agents do not all list all Pods at the moment when a policy first asks for them",
	async (t) => {
		const site = new Site(t);
		fill(site.cluster);
		for (let i = 10; i < 208; i++) site.cluster.put("nodes", node(`n${i}`, i));
		const server = await site.server();
		site.reach(server);
		await site.start();
		await site.until("all", () => site.live);
		const elsewhere = () => server.requestsFor("pods", /nodeName%21%3D/).length;
		const asked = site.clock.now();
		site.source!.pods.wantOthers(true);
		await site.until("the list", () => elsewhere() > 0, 10);
		// By chance, which is a half on this clock, of one ms a Node.
		t.ok(site.clock.now() - asked >= 100, `${site.clock.now() - asked} ms`);
	},
);

t.test("nonsense is no reason to remove anything", async (t) => {
	const html = { status: 200, body: "<html>Welcome</html>" } as const;
	const list = (fields: object) => ({ status: 200, body: JSON.stringify(fields) });
	const nonsense: FakeAnswer[] = [
		html,
		{ status: 404, body: "not here" },
		{ status: 404, body: JSON.stringify({ kind: "Status", code: 404 }) },
		{ status: 200, body: "" },
		{ status: 200, body: "{}" },
		{ status: 302, headers: { location: "https://elsewhere" } },
		list({ kind: "NodeList", metadata: {}, items: [] }),
		list({ kind: "Status", metadata: { resourceVersion: "7" } }),
		list({ kind: "NodeList", metadata: { resourceVersion: "7" } }),
	];
	const { site, server, cluster } = await started(t);
	cluster.compact();
	for (const answer of nonsense) {
		server.answer(/./, answer);
		const asked = server.requests.length;
		for (const plural of Object.keys(SERVED)) server.endWatches(plural);
		await site.until("it was read", () => server.requests.length > asked + 12);
		server.mend();
		t.equal(site.keys("Node"), "n1 n2", String(answer.body));
		t.equal(site.keys("ServiceCIDR"), "kubernetes", String(answer.body));
		t.equal(site.keys("Service"), "default/web", String(answer.body));
		t.ok(site.problems.length > 0, "it is said");
		await site.until("all watches", () => site.live && site.problems.length === 0);
	}
	for (const line of ["nonsense", "[]", '{"type":"WAT"}', '{"type":"ADDED","object":{}}', "null"]) {
		server.tell("nodes", line);
		await site.until("the watch ends", () => !site.live || !server.watched("nodes"), 1);
		await site.until("another", () => site.live);
		t.equal(site.keys("Node"), "n1 n2", line);
	}
});

t.test("objects that cannot be used are named, and keep their last valid content", async (t) => {
	const { site, cluster } = await started(t);
	const wrong = { spec: { podCIDRs: ["10.244.2.1/24"] } };
	cluster.put("nodes", node("n2", 2, wrong));
	cluster.put("nodes", node("n3", 3, wrong));
	cluster.put("services", {
		metadata: { namespace: "default", name: "web" },
		spec: { externalIPs: "x" },
	});
	await site.until("the problems", () => site.problems.length === 3);
	t.match(site.problems, [
		/^Cannot accept Node n2: expected a CIDR without host bits.*; what it said before stays in force$/,
		/^Cannot accept Node n3: expected a CIDR without host bits[^;]*$/,
		/^Cannot accept Service default\/web: expected a list as spec.externalIPs, got "x"; what it/,
	]);
	t.match(site.store.get("Node", "n2"), { podCIDRs: ["10.244.2.0/24"] });
	t.match(site.store.get("Service", "default/web"), { externalIPs: ["192.0.2.1"] });
	// Another object of that name has no last content.
	cluster.remove("nodes", "n2");
	cluster.put("nodes", node("n2", 2, { ...wrong, metadata: { name: "n2", uid: "another" } }));
	await site.until("it goes", () => site.keys("Node") === "n1");
	cluster.remove("nodes", "n2");
	cluster.remove("nodes", "n3");
	cluster.put("services", service("web"));
	await site.until("they are gone", () => site.problems.length === 0);
});

t.test("thousands of unusable objects are counted, not listed", async (t) => {
	const { site } = await started(t, (_, { cluster }) => {
		for (let i = 0; i < 1000; i++) cluster.put("nodes", { metadata: { name: `x${i}` }, spec: "" });
	});
	t.equal(site.problems.length, 21);
	t.match(site.problems.at(-1), /got 1000/);
});

t.test("a Node registered anew with another CIDR is another Node", async (t) => {
	const { site, cluster } = await started(t);
	const reader = site.store.reader("Node");
	reader.take();
	cluster.remove("nodes", "n2");
	cluster.put("nodes", node("n2", 9, { metadata: { name: "n2", uid: "second" } }));
	await site.until("the new one", () => site.store.get("Node", "n2")?.uid === "second");
	t.match(site.store.get("Node", "n2"), { podCIDRs: ["10.244.9.0/24"] });
	t.ok(reader.take().has("n2"));
});

t.test("the API is away at the start: waited for, for as long as it takes", async (t) => {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server();
	const { port, authority } = server;
	site.reach(server);
	await server.stop();
	await site.start();
	await site.until("a problem", () => site.problems.length > 0);
	t.match(site.problems, [
		/^Cannot reach the Kubernetes API: https:\S+: connect ECONNREFUSED \S+; what is known of the cluster stays/,
	]);
	t.match(site.facts("Node"), { synced: false, stale: true, ageSeconds: null });
	await site.until("an hour", () => site.clock.now() > 3_600_000, 10_000);
	const back = await new FakeServer(site.cluster, { authority }).start(port);
	t.teardown(() => back.stop());
	const since = site.clock.now();
	await site.until("the first sync", () => site.synced);
	t.ok(site.clock.now() - since < 15_000, `${site.clock.now() - since} ms later`);
	t.strictSame(site.problems, []);
});

t.test("credentials that cannot be read are a problem, and are read again", async (t) => {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server();
	site.access = new Error("Cannot read the service account's token: ENOENT");
	await site.start();
	await site.until("a problem", () => site.problems.length > 0);
	t.match(site.problems, [
		/^Cannot reach the Kubernetes API: Cannot read the service account's token/,
	]);
	site.reach(server);
	await site.until("the first sync", () => site.synced);
	site.access = new Error("Cannot read it");
	await site.clock.advance(61_000);
	server.endWatches("nodes");
	await site.until("a problem", () => site.problems.length > 0);
	await site.until("a watch with the last one", () => server.watched("nodes"));
});

t.test("a restart without the API has what was last known; deletions count later", async (t) => {
	const { site, server, cluster } = await started(t);
	await site.clock.advance(3000);
	await site.stop();
	const { port, authority } = server;
	await server.stop();
	await site.start();
	t.equal(site.keys("Node"), "n1 n2");
	t.match(site.store.get("ServiceCIDR", "kubernetes"), { cidrs: ["10.96.0.0/12"] });
	t.equal(site.store.isSynced("Node"), false);
	t.match(site.facts("Node"), { synced: false, stale: true });
	cluster.remove("nodes", "n2");
	cluster.put("nodes", node("n3", 3));
	await site.until("a problem", () => site.problems.length > 0);
	t.equal(site.keys("Node"), "n1 n2", "nothing is removed unseen");
	const back = await new FakeServer(cluster, { authority }).start(port);
	t.teardown(() => back.stop());
	await site.until("what there is", () => site.keys("Node") === "n1 n3");
	t.match(site.facts("Node"), { synced: true, stale: false });
});

t.test("a slow kind: nothing of it is removed before its list has come", async (t) => {
	const { site, server, cluster } = await started(t);
	await site.stop();
	cluster.remove("services", "default/web");
	cluster.remove("nodes", "n2");
	const forbidden = { status: 503, body: "{}" };
	server.answer(/GET .*services/, forbidden);
	await site.start();
	await site.until("Nodes", () => site.store.isSynced("Node"));
	t.equal(site.keys("Node"), "n1");
	t.equal(site.keys("Service"), "default/web");
	server.mend();
	await site.until("Services", () => site.store.isSynced("Service"));
	t.equal(site.keys("Service"), "");
});

t.test("a last good set that cannot be used is as good as none", async (t) => {
	const { site } = await started(t);
	await site.stop();
	const file = join(site.runDir, "cluster.json");
	const whole = readFileSync(file, "utf8");
	t.match(whole, /^\{"format":3,"servers":\[\]\}\n\["Node","n1",\{/);
	const lines = whole.trimEnd().split("\n");
	site.access = new Error("no API");
	for (const text of [
		"",
		"x",
		"{}",
		lines.slice(0, -1).join("\n"),
		whole.replace('":3,', '":2,'),
	]) {
		writeFileSync(file, text);
		await site.start();
		t.equal(site.keys("Node"), "", JSON.stringify(text.slice(0, 40)));
		await site.stop();
		writeFileSync(file, whole);
	}
	await site.start();
	t.equal(site.keys("Node"), "n1 n2");
});

t.test("HTTP/1.1 does, where a proxy speaks nothing else", async (t) => {
	const site = new Site(t);
	fill(site.cluster);
	const server = await site.server({ http1: true });
	site.reach(server);
	await site.start();
	await site.until("the first sync", () => site.synced && site.live);
	t.equal(server.requests[0]?.http, "1.1");
	site.cluster.put("nodes", node("n3", 3));
	await site.until("a change", () => site.keys("Node") === "n1 n2 n3");
	const { port, authority } = server;
	await server.stop();
	await site.until("it is gone", () => !site.live);
	site.cluster.remove("nodes", "n2");
	const back = await new FakeServer(site.cluster, { authority, http1: true }).start(port);
	t.teardown(() => back.stop());
	await site.until("it is back", () => site.keys("Node") === "n1 n3" && site.live);
});

t.test("EndpointSlices are listed and watched, and a list again finds what is gone", async (t) => {
	const slice = (name: string, last: number, more: object = {}): ApiObject => ({
		metadata: {
			...{ namespace: "default", name },
			labels: { "kubernetes.io/service-name": "web" },
		},
		...{ addressType: "IPv4", endpoints: [{ addresses: [`10.244.1.${last}`] }], ...more },
	});
	const { site, server, cluster } = await started(t, (_, { cluster }) => {
		cluster.put("endpointslices", slice("web-1", 1));
		cluster.put("endpointslices", slice("web-2", 2));
	});
	const { store } = site;
	const catalog = new ServiceCatalog(store);
	const addresses = () => {
		catalog.update();
		const { slices = [] } = catalog.get("default/web") ?? {};
		return slices.map(({ endpoints }) => endpoints[0]?.address).join(" ");
	};
	t.match(
		server.requestsFor("endpointslices")[0],
		/labelSelector=%21service.kubernetes.io%2Fheadless/,
	);
	t.equal(addresses(), "10.244.1.1 10.244.1.2");
	t.ok(catalog.isSynced);
	cluster.put("endpointslices", slice("web-1", 3));
	await site.until("a change", () => addresses() === "10.244.1.3 10.244.1.2");
	cluster.remove("endpointslices", "default/web-1");
	await site.until("a deletion", () => addresses() === "10.244.1.2");
	catalog.takeChanged();
	// What happens while nobody watches is found by a new list: 410 says that the watch cannot go on.
	server.endWatches("endpointslices");
	cluster.put("endpointslices", slice("web-3", 4));
	cluster.remove("endpointslices", "default/web-2");
	cluster.compact();
	await site.until("the list", () => addresses() === "10.244.1.4");
	t.strictSame([...catalog.takeChanged()], ["default/web"]);
	cluster.put("endpointslices", slice("web-3", 4, { endpoints: [{ addresses: ["127.0.0.1"] }] }));
	await site.until("the problem", () => site.problems.length === 1);
	t.match(site.problems, [
		/^Cannot accept EndpointSlice default\/web-3: .* endpoints\[0\].addresses\[0\], got 127.0.0.1/,
	]);
	t.equal(addresses(), "10.244.1.4", "what it said before stays");
	await site.stop();
	site.access = new Error("no API");
	await site.start();
	const again = new ServiceCatalog(site.store);
	again.update();
	t.match(again.get("default/web"), { slices: [{ endpoints: [{ address: "10.244.1.4" }] }] });
	t.notOk(again.isSynced, "what was last known is in force, and is not all that there is");
});

/** A Pod with an address of its own. */
function running(name: string, nodeName: string, address: string, more: object = {}): ApiObject {
	return {
		metadata: { namespace: "default", name },
		spec: { nodeName, containers: [], ...more },
		status: { phase: "Running", podIPs: [{ ip: address }] },
	};
}

t.test("Pods of other Nodes are listed and watched while they are wanted", async (t) => {
	const { site, server, cluster } = await started(t, (_, { cluster }) => {
		cluster.put("pods", running("web", "n2", "10.244.2.2"));
		cluster.put("pods", running("host", "n2", "192.168.1.12", { hostNetwork: true }));
		cluster.put("pods", {
			...running("done", "n2", "10.244.2.3"),
			status: { phase: "Succeeded", podIPs: [{ ip: "10.244.2.3" }] },
		});
	});
	const { pods } = site.source!;
	t.equal(site.keys("Pod"), "default/here");
	t.equal(pods.hasOthers, false);
	pods.wantOthers(true);
	pods.wantOthers(true);
	await site.until("they are known", () => pods.hasOthers);
	t.equal(site.keys("Pod"), "default/here default/web", "with an address of their own");
	const selector = (one: string) => new URLSearchParams(one).get("fieldSelector") ?? "";
	const asked = server.requestsFor("pods").filter((one) => selector(one).includes("!="));
	t.equal(asked.length, 1);
	t.equal(
		selector(asked[0]!),
		"spec.nodeName!=n1,status.phase!=Succeeded,status.phase!=Failed,status.podIP!=,spec.hostNetwork=false",
	);

	cluster.put("pods", running("new", "n2", "10.244.2.4"));
	await site.until("one comes", () => site.keys("Pod").includes("default/new"));
	cluster.put("pods", {
		...running("new", "n2", "10.244.2.4"),
		status: { phase: "Failed", podIPs: [{ ip: "10.244.2.4" }] },
	});
	await site.until("one ends", () => !site.keys("Pod").includes("default/new"));
	// One of the same name on the other side, and back.
	cluster.remove("pods", "default/web");
	cluster.put("pods", running("web", "n1", "10.244.1.2"));
	const nodeOf = () => site.store.get("Pod", "default/web")?.node;
	await site.until("it is here", () => nodeOf() === "n1");
	cluster.remove("pods", "default/web");
	cluster.put("pods", running("web", "n2", "10.244.2.5"));
	await site.until("it is elsewhere", () => nodeOf() === "n2");

	// A list of either takes nothing of the other's away.
	cluster.compact();
	server.endWatches("pods");
	cluster.remove("pods", "default/here");
	await site.until("the lists came again", () => site.keys("Pod") === "default/web");

	pods.wantOthers(false);
	await site.clock.advance(200_000);
	pods.wantOthers(true);
	await site.clock.advance(200_000);
	t.equal(site.keys("Pod"), "default/web", "they are wanted again");
	pods.wantOthers(false);
	await site.clock.advance(300_000);
	await site.until("they are forgotten", () => site.keys("Pod") === "");
	t.equal(pods.hasOthers, false);
});

t.test("a server that cannot select by hostNetwork is asked for more Pods", async (t) => {
	const { site, server, cluster } = await started(t);
	server.unknownFields.add("spec.hostNetwork");
	cluster.put("pods", running("web", "n2", "10.244.2.2"));
	cluster.put("pods", running("host", "n2", "192.168.1.12", { hostNetwork: true }));
	site.source!.pods.wantOthers(true);
	await site.until("they are known", () => site.source!.pods.hasOthers);
	t.match(site.keys("Pod"), /default\/here .*default\/host default\/web/);
	t.same(site.problems, []);
});

t.test("one Pod of this Node is asked for", async (t) => {
	const { site, server, cluster } = await started(t);
	cluster.put("pods", running("web", "n1", "10.244.1.2"));
	await site.until("it came", () => site.keys("Pod").includes("default/web"));
	site.store.update((writer) => writer.remove("Pod", "default/web"));
	const { pods } = site.source!;
	await pods.fetch("default", "web");
	t.match(site.store.get("Pod", "default/web"), { addresses: ["10.244.1.2"] });
	await pods.fetch("default", "none");
	await pods.fetch("default", "elsewhere");
	t.equal(site.keys("Pod"), "default/here default/web", "no other Node's");
	await server.stop();
	await t.resolves(pods.fetch("default", "web"), "an API that is away");
});
