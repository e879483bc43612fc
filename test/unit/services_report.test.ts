/** `fairway services`: rows, places of backends, the table. */
import t from "tap";
import { servicesRequest, servicesText } from "../../src/cli/services.js";
import type { BackendView, ServiceView } from "../../src/compile/services/view.js";
import { peerIndex } from "../../src/forwarder/route.js";
import { formerServices } from "../../src/report/former_services.js";
import { type PlaceContext, readService, serviceRows } from "../../src/report/services.js";
import { FrontendKind } from "../../src/tables/generated.js";
import * as world from "../packet/world.js";

Object.assign(world.ifindex, { fairway0: 9, wire0: 2, pod0: 3, pod1: 4 });

const backend = (address: string, port = 8080, more: Partial<BackendView> = {}): BackendView => ({
	...{ id: 1, address, port, node: "" },
	...{ isReady: true, isServing: true, isTerminating: false },
	...{ inClusterSet: true, inLocalSet: false, ...more },
});

const web: ServiceView = {
	...{ namespace: "default", name: "web", type: "NodePort" },
	...{ localReady: 1, healthCheckNodePort: 0 },
	ports: [
		{
			...{ name: "http", port: 80, protocol: 6, family: 4, index: 1 },
			frontends: [
				{ address: "10.96.0.10", port: 80, kind: "clusterIP" },
				{ address: "0.0.0.0", port: 30080, kind: "nodePort" },
			],
			backends: [
				backend(world.podA[4]),
				backend(world.direct.pod[4]),
				backend(world.geneve4.pod[4], 8080, { isReady: false, isTerminating: true }),
				backend(world.nodeAddress[4], 6443),
				backend("192.168.1.12", 6443),
				backend("203.0.113.7"),
				backend("203.0.113.8", 8080, { node: "n9" }),
				backend("10.244.1.77", 8080, { isReady: false, isServing: false }),
			],
			why: "All 7 endpoints, ready.",
		},
		{
			...{ name: "http", port: 80, protocol: 6, family: 6, index: 2 },
			frontends: [{ address: "fd00:10:96::a", port: 80, kind: "clusterIP" }],
			backends: [backend(world.direct.pod[6], 8080, { isReady: false })],
			why: "All 7 endpoints, ready.",
		},
		{
			...{ name: "quic", port: 80, protocol: 17, family: 4, index: 3 },
			...{ frontends: [], backends: [], why: "There are no endpoints." },
		},
	],
};

const views = new Map([
	["kube-system/dns", { ...web, namespace: "kube-system", name: "dns", ports: [] }],
	["default/web", web],
]);
const services = { keys: () => views.keys(), view: (key: string) => views.get(key) };
const context: PlaceContext = {
	node: "n1",
	tables: world.makeTables(64),
	peer: (index) =>
		world.peers
			.filter(({ id }) => [4, 6].some((f) => peerIndex(id, f as 4 | 6) === index))
			.map(({ id }) => ({ node: `n${id + 1}`, path: id === 1 ? "direct" : "geneve" }) as const)[0],
	nodes: new Map([["192.168.1.12", "n2"]]),
};

t.test("each port is a row of both families, each backend has its place", async (t) => {
	const rows = [...serviceRows(services, undefined, context)].flat();
	t.strictSame(
		rows.map(({ portName, protocol, why }) => [portName, protocol, why]),
		[
			["http", "TCP", ["All 7 endpoints, ready."]],
			["quic", "UDP", ["There are no endpoints."]],
		],
	);
	t.strictSame(Object.keys(rows[0] ?? {}).sort(), [
		...["backends", "frontends", "isFormer", "name", "namespace", "port", "portName", "protocol"],
		...["type", "why"],
	]);
	const at = (address: string, port: number, node: string, state: string, path: string) => ({
		...{ address, port, node, path, state },
	});
	t.strictSame(rows[0]?.backends, [
		at(world.podA[4], 8080, "n1", "ready", "local"),
		at(world.direct.pod[4], 8080, "n2", "ready", "direct"),
		at(world.geneve4.pod[4], 8080, "n3", "terminating", "geneve"),
		at(world.nodeAddress[4], 6443, "n1", "ready", "host"),
		at("192.168.1.12", 6443, "n2", "ready", "host"),
		at("203.0.113.7", 8080, "", "ready", "outside"),
		at("203.0.113.8", 8080, "n9", "ready", "host"),
		at(world.direct.pod[6], 8080, "n2", "serving", "direct"),
	]);
	t.equal(rows[0]?.frontends.length, 3);
	t.equal([...serviceRows(services, "default/web", context)].flat().length, 2);
	t.throws(() => [...serviceRows(services, "default/none", context)], {
		message: /^Cannot show Service /,
	});
	t.throws(() => [...serviceRows(services, "kube-system/dns", context)], {
		message: /^Cannot show Service /,
	});
	t.equal(readService(undefined), undefined);
	t.equal(readService({ namespace: "a", name: "b" }), "a/b");
	t.throws(() => readService({ name: "b" }), { message: /expected a namespace and a name/ });
});

t.test("what an earlier agent left is shown while not all objects have been read", async (t) => {
	const set = (from: number, count: number) => (BigInt(count) << 32n) | BigInt(from);
	const service = {
		clusterSet: set(1, 2),
		localSet: set(2, 1),
		nameHash: 1n,
		affinity: 0,
		flags: 0,
	};
	const held = {
		services: new Map([1, 7, 8].map((index) => [index, service])),
		frontends: new Map([
			["10.96.0.10 6 80", { service: 1, kind: FrontendKind.CLUSTER_IP }],
			["0.0.0.0 17 30053", { service: 7, kind: FrontendKind.NODE_PORT }],
			["10.96.0.53 17 53", { service: 7, kind: FrontendKind.CLUSTER_IP }],
			["10.96.0.7 6 1", { service: 9, kind: FrontendKind.CLUSTER_IP }],
			["192.0.2.1 6 80", { service: 0, kind: FrontendKind.ADDRESS }],
		]),
		serviceSlots: new Map([
			[1, 4],
			[2, 5],
		]),
		backends: new Map([
			[4, { address: world.podA[4], port: 53, service: 7 }],
			[5, { address: world.direct.pod[4], port: 53, service: 7 }],
		]),
	};
	const rows = formerServices(held, new Set([1]), context);
	t.match(rows, [
		{
			...{ namespace: "", name: "", port: 53, protocol: "UDP", type: "NodePort", isFormer: true },
			frontends: [
				{ address: "0.0.0.0", port: 30053, kind: "nodePort" },
				{ address: "10.96.0.53", port: 53, kind: "clusterIP" },
			],
			backends: [
				{ address: world.podA[4], node: "n1", path: "local", state: "ready" },
				{ address: world.direct.pod[4], node: "n2", path: "direct" },
			],
			why: [/^An earlier agent left it\./],
		},
	]);
	t.equal(rows.length, 1, "one of an object, and what is of no Service, are left out");
	t.match(servicesText(rows, 4, 120), /\n\(an earlier agent's\) +53\/UDP +NodePort /);
});

t.test("the table of Services fits 120 columns; one Service has all of its backends", async (t) => {
	const rows = [...serviceRows(services, undefined, context)].flat();
	const text = servicesText(rows, 4, 120);
	const lines = text.split("\n");
	t.ok(Math.max(...lines.map((line) => line.length)) <= 120, text);
	t.match(lines[0], /^SERVICE +PORT +TYPE +FRONTENDS +BACKENDS +NODE +STATE +PATH$/);
	t.match(lines[1], /^default\/web +http 80\/TCP +NodePort +10\.96\.0\.10:80 .* n1 +ready +local$/);
	t.match(lines[2], /^ +\*:30080 +.* n2 +ready +direct$/);
	t.match(lines[3], /^ +\[fd00:10:96::a\]:80 /);
	t.match(lines[4], /^ +and 5 more$/);
	t.match(lines[5], /^default\/web +quic 80\/UDP +NodePort +none$/);
	t.notMatch(text, "All 7", "only where one Service is shown");
	const whole = servicesText(rows, Number.POSITIVE_INFINITY, undefined);
	t.match(whole, /203\.0\.113\.7:8080 +- +ready +outside/);
	t.match(whole, "default/web 80/UDP: There are no endpoints.\n");
	t.equal(servicesText([], 4, 120), "Fairway serves no Services here.\n");
	const wide = "n".repeat(63);
	const long = rows.map((row) => ({ ...row, namespace: wide, name: wide }));
	for (const line of servicesText(long, 4, 120).split("\n")) t.ok(line.length <= 120, line);
	t.same(servicesRequest("a/b"), { namespace: "a", name: "b" });
	for (const bad of ["a", "a/", "a/b/c", ""])
		t.throws(() => servicesRequest(bad), { name: "UsageError", message: /NAMESPACE\/NAME/ });
});
