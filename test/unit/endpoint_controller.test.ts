/** Endpoints that the Services of a manifest directory get from its Pods. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import t, { type Test } from "tap";
import { EndpointController, type LocalPod } from "../../src/cluster/endpoint_controller.js";
import { readObject } from "../../src/cluster/kinds.js";
import { ManifestDirectory } from "../../src/cluster/manifests.js";
import { type Kind, Store } from "../../src/cluster/store.js";
import { attachedPodsFile, writeAttachedPods } from "../../src/lab/attached_pods.js";
import { readTopology } from "../../src/lab/topology.js";

function put(store: Store, ...objects: { kind: string; [field: string]: unknown }[]): void {
	store.update((writer) => {
		for (const { kind, ...object } of objects) {
			const reading = readObject(kind as Kind, object);
			if (!("record" in reading)) throw new Error(JSON.stringify(reading));
			writer.put(reading.kind, reading.key, reading.record);
		}
	});
}

function service(spec: object = {}, name = "web") {
	const ports = [{ port: 80, targetPort: 8080 }];
	const common = { clusterIP: "10.96.0.1", selector: { app: "web" }, ports };
	return { kind: "Service", metadata: { name }, spec: { ...common, ...spec } };
}

/** @param last of its addresses */
function pod(last: number, more: { metadata?: object; spec?: object; status?: object } = {}) {
	const podIPs = [{ ip: `10.244.1.${last}` }];
	return {
		kind: "Pod",
		metadata: { name: `web-${last}`, labels: { app: "web" }, ...more.metadata },
		spec: { nodeName: "n1", ...more.spec },
		status: { podIPs, ...more.status },
	};
}

function node(name: string, zone: string, last: number) {
	return {
		kind: "Node",
		metadata: { name, labels: { "topology.kubernetes.io/zone": zone } },
		spec: { podCIDRs: [`10.244.${last}.0/24`] },
		status: { addresses: [{ type: "InternalIP", address: `192.168.1.${last}` }] },
	};
}

/** "10.244.1.1:8080 ready n1", in order. */
function endpoints(store: Store): string[] {
	return [...store.keys("EndpointSlice")].sort().flatMap((key) => {
		const { ports, endpoints } = store.get("EndpointSlice", key)!;
		const numbers = ports.map(({ name, port }) => `${name}:${port}`).join();
		return endpoints.map((one) => {
			const state = [
				...(one.isReady ? ["ready"] : []),
				...(one.isServing ? ["serving"] : []),
				...(one.isTerminating ? ["terminating"] : []),
			];
			const zones = one.hintZones.map((zone) => `in ${zone}`);
			const nodes = one.hintNodes.map((name) => `at ${name}`);
			return [one.address, numbers, ...state, one.node, ...zones, ...nodes].join(" ");
		});
	});
}

function condition(status: string) {
	return { conditions: [{ type: "Ready", status }] };
}

t.test("which endpoints a Service without slices gets from Pods", async (t) => {
	const named = (name: string, containerPort: number, protocol = "TCP") => ({
		containers: [{ ports: [{ name, containerPort, protocol }] }],
	});
	const deleted = { deletionTimestamp: "2026-01-01T00:00:00Z" };
	const rows: [what: string, objects: Parameters<typeof put>[1][], endpoints: string[]][] = [
		[
			"a Pod without conditions is ready",
			[service(), pod(1)],
			["10.244.1.1 :8080 ready serving n1"],
		],
		[
			"Ready true, false and unknown",
			[
				service(),
				pod(1, { status: condition("True") }),
				pod(2, { status: condition("False") }),
				pod(3, { status: condition("Unknown") }),
			],
			["10.244.1.1 :8080 ready serving n1", "10.244.1.2 :8080 n1", "10.244.1.3 :8080 n1"],
		],
		[
			"not ready addresses are published",
			[service({ publishNotReadyAddresses: true }), pod(1, { status: condition("False") })],
			["10.244.1.1 :8080 ready n1"],
		],
		[
			"a deleted Pod is terminating, and serves while it is ready",
			[
				service(),
				pod(1, { metadata: deleted }),
				pod(2, { metadata: deleted, status: condition("False") }),
			],
			["10.244.1.1 :8080 serving terminating n1", "10.244.1.2 :8080 terminating n1"],
		],
		[
			"Pods that have ended, have no address or other labels are none",
			[
				service(),
				pod(1, { status: { phase: "Succeeded" } }),
				pod(2, { status: { phase: "Failed" } }),
				pod(3, { status: { podIPs: [] } }),
				pod(4, { metadata: { labels: { app: "other" } } }),
				pod(5, { metadata: { namespace: "other" } }),
			],
			[],
		],
		[
			"every label of the selector has to match",
			[
				service({ selector: { app: "web", tier: "front" } }),
				pod(1),
				pod(2, { metadata: { labels: { app: "web", tier: "front", more: "x" } } }),
			],
			["10.244.1.2 :8080 ready serving n1"],
		],
		[
			"a named target port is each Pod's own",
			[
				service({ ports: [{ name: "http", port: 80, targetPort: "web" }] }),
				pod(1, { spec: named("web", 8080) }),
				pod(2, { spec: named("web", 9090) }),
				pod(3, { spec: named("web", 9090, "UDP") }),
			],
			[
				"10.244.1.3  ready serving n1",
				"10.244.1.1 http:8080 ready serving n1",
				"10.244.1.2 http:9090 ready serving n1",
			],
		],
		[
			"both families, a slice for each",
			[service(), pod(1, { status: { podIPs: [{ ip: "FD00::1" }, { ip: "10.244.1.1" }] } })],
			["10.244.1.1 :8080 ready serving n1", "fd00::1 :8080 ready serving n1"],
		],
		[
			"a Pod on the Node's network has its Node's address where none is given",
			[
				service(),
				node("n1", "a", 1),
				pod(1, { spec: { hostNetwork: true }, status: { podIPs: [] } }),
			],
			["192.168.1.1 :8080 ready serving n1"],
		],
		[
			"traffic distribution by zone",
			[service({ trafficDistribution: "PreferClose" }), node("n1", "a", 1), pod(1)],
			["10.244.1.1 :8080 ready serving n1 in a"],
		],
		[
			"traffic distribution by Node",
			[service({ trafficDistribution: "PreferSameNode" }), node("n1", "a", 1), pod(1)],
			["10.244.1.1 :8080 ready serving n1 in a at n1"],
		],
		["a Service without a selector has none of its own", [service({ selector: {} }), pod(1)], []],
		[
			"a Service with a slice of its own has only that",
			[
				service(),
				pod(1),
				{
					kind: "EndpointSlice",
					metadata: { name: "mine", labels: { "kubernetes.io/service-name": "web" } },
					addressType: "IPv4",
					ports: [{ port: 1 }],
					endpoints: [{ addresses: ["192.0.2.1"] }],
				},
			],
			["192.0.2.1 :1 ready serving "],
		],
	];
	for (const [what, objects, expected] of rows)
		for (const order of [objects, [...objects].reverse()]) {
			const store = new Store();
			new EndpointController(store, "n1");
			for (const object of order) put(store, object);
			t.strictSame(endpoints(store), expected, what);
		}
});

t.test("a Pod that came through CNI has CNI's addresses, and is here", async (t) => {
	const store = new Store();
	const controller = new EndpointController(store, "n2");
	put(store, service(), pod(1, { spec: { nodeName: "" }, status: { podIPs: [] } }));
	t.strictSame(endpoints(store), []);
	const attached: LocalPod[] = [
		{ namespace: "default", name: "web-1", addresses: ["10.244.2.9", "fd00:2::9"] },
		{ addresses: ["10.244.2.10"] },
		{ namespace: "default", name: "nobody", addresses: ["10.244.2.11"] },
	];
	controller.setLocalPods(attached);
	t.strictSame(endpoints(store), [
		"10.244.2.9 :8080 ready serving n2",
		"fd00:2::9 :8080 ready serving n2",
	]);
	controller.setLocalPods([]);
	t.strictSame(endpoints(store), []);
	put(store, pod(1));
	t.strictSame(endpoints(store), ["10.244.1.1 :8080 ready serving n1"]);
});

t.test("endpoints go with the Pod, its labels, the selector, and a slice of its own", async (t) => {
	const store = new Store();
	new EndpointController(store, "n1");
	put(
		store,
		service(),
		service({ selector: { app: "other" } }, "other"),
		pod(1),
		node("n1", "a", 1),
	);
	const zones = () =>
		[...store.keys("EndpointSlice")].map((key) => {
			const { service, endpoints } = store.get("EndpointSlice", key)!;
			return `${service} ${endpoints.map(({ zone }) => zone)}`;
		});
	t.strictSame(zones(), ["web a"]);
	put(store, node("n1", "b", 1));
	t.strictSame(zones(), ["web b"], "the Node's zone");
	put(store, pod(1, { metadata: { labels: { app: "other" } } }));
	t.strictSame(zones(), ["other b"], "the Pod's labels");
	put(store, service({ selector: { app: "other" } }));
	t.strictSame(zones().sort(), ["other b", "web b"], "the selector");
	store.update((writer) => writer.remove("Pod", "default/web-1"));
	t.strictSame(zones(), []);
	put(store, pod(1, { metadata: { labels: { app: "other" } } }));
	store.update((writer) => writer.remove("Service", "default/other"));
	t.strictSame(zones(), ["web b"]);
});

t.test("any order of changes ends where a new controller begins", async () => {
	const labels = fc.record(
		{ app: fc.constantFrom("a", "b"), tier: fc.constantFrom("x", "y") },
		{ requiredKeys: [] },
	);
	const step = fc.oneof(
		fc.record({
			kind: fc.constant("Service"),
			...{ name: fc.constantFrom("s1", "s2", "s3"), labels, gone: fc.boolean() },
		}),
		fc.record({
			kind: fc.constant("Pod"),
			...{ name: fc.constantFrom("p1", "p2", "p3"), labels, gone: fc.boolean() },
		}),
		fc.record({
			kind: fc.constant("EndpointSlice"),
			...{ name: fc.constantFrom("s1", "s2"), labels, gone: fc.boolean() },
		}),
		fc.record({
			kind: fc.constant("Node"),
			...{ name: fc.constantFrom("n1", "n2"), labels, gone: fc.boolean() },
		}),
	);
	const objectOf = (kind: string, name: string, labels: object) => {
		const number = name.slice(1);
		const metadata = { name, labels };
		if (kind === "Service")
			return { kind, metadata, spec: { selector: labels, ports: [{ port: 1 }] } };
		if (kind === "Node") return node(name, Object.values(labels).join("-"), Number(number));
		const owner = { name, labels: { "kubernetes.io/service-name": name } };
		if (kind === "EndpointSlice") return { kind, metadata: owner, addressType: "IPv4" };
		const status = { podIPs: [{ ip: `10.244.1.${number}` }] };
		return { kind, metadata, spec: { nodeName: `n${number}` }, status };
	};
	fc.assert(
		fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
			const store = new Store();
			new EndpointController(store, "n1");
			for (const { kind, name, labels, gone } of steps)
				if (!gone) put(store, objectOf(kind, name, labels));
				else
					store.update((writer) =>
						writer.remove(kind as Kind, kind === "Node" ? name : `default/${name}`),
					);
			const again = new Store();
			again.update((writer) => {
				for (const kind of ["Node", "Pod", "Service", "EndpointSlice"] as const)
					for (const key of store.keys(kind))
						if (!key.includes("#")) writer.put(kind, key, store.get(kind, key)!);
			});
			new EndpointController(again, "n1");
			const slices = (of: Store) =>
				[...of.keys("EndpointSlice")].sort().map((key) => of.get("EndpointSlice", key));
			t.strictSame(slices(store), slices(again));
		}),
		{ numRuns: 200 },
	);
});

function directory(t: Test): string {
	const made = mkdtempSync(join(tmpdir(), "fairway-endpoints-"));
	t.teardown(() => rmSync(made, { recursive: true }));
	mkdirSync(join(made, "manifests"));
	return join(made, "manifests");
}

t.test("what a lab writes back gives the Pods of all Nodes their addresses", async (t) => {
	const manifests = directory(t);
	const objects = [
		{ ...node("n1", "a", 1), apiVersion: "v1" },
		{ ...service(), apiVersion: "v1" },
		{ ...pod(1, { status: { podIPs: [] } }), apiVersion: "v1" },
	];
	const write = () =>
		writeFileSync(join(manifests, "a.json"), JSON.stringify({ kind: "List", items: objects }));
	write();
	const { pods } = readTopology(manifests);
	const store = new Store();
	new EndpointController(store, "n2");
	const source = await ManifestDirectory.open(manifests, store);
	t.teardown(() => source.close());
	t.strictSame(endpoints(store), []);
	const file = attachedPodsFile(manifests, "x");
	const attachment = { containerId: "c", addresses: { 4: "10.244.1.7", 6: "fd00::7" } };
	const gone = { ...pods[0]!, name: "gone", label: "gone" };
	writeAttachedPods(file, "x", [
		[pods[0]!, attachment],
		[gone, attachment],
	]);
	await source.resync();
	const both = ["10.244.1.7 :8080 ready serving n1", "fd00::7 :8080 ready serving n1"];
	t.strictSame(endpoints(store), both);
	t.strictSame(store.problems(), [], "it is not the Pod a second time");
	t.equal(store.get("Pod", "default/gone"), undefined, "by itself it is no Pod");
	t.strictSame(readTopology(manifests).pods, pods, "nor in the lab");
	objects[2] = { ...pod(1, { status: condition("False") }), apiVersion: "v1" };
	write();
	await source.resync();
	t.match(endpoints(store), ["10.244.1.7 :8080 n1", "fd00::7 :8080 n1"]);
	t.match(JSON.parse(readFileSync(file, "utf8")), { kind: "List", items: { length: 2 } });
	rmSync(file);
	await source.resync();
	t.strictSame(endpoints(store), ["10.244.1.1 :8080 n1"], "what the Pod itself says");
});
