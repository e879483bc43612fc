/** Health and metrics over HTTP. */
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import t, { type Test } from "tap";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { Status } from "../../src/api/messages/status.js";
import { clash, listenAddress } from "../../src/config/listen_address.js";
import { CniDurations } from "../../src/http/cni_durations.js";
import { POLICY_LATENCY, SERVICE_LATENCY } from "../../src/http/durations.js";
import { exposition } from "../../src/http/exposition.js";
import { healthHandler } from "../../src/http/health.js";
import { Histogram } from "../../src/http/histogram.js";
import { Listener } from "../../src/http/listener.js";
import { described, type Sample } from "../../src/http/metrics.js";
import { reasonKind } from "../../src/http/reason_kind.js";
import { metricsHandler } from "../../src/http/scrape.js";
import { parseMetrics } from "../tools/prometheus.js";

const status = {
	ready: true,
	mode: "hybrid",
	tunnelType: "geneve",
	xdp: "off",
	version: "1",
	kernel: 'a "quoted" \\ name',
	libbpf: "1.1",
	uptimeSeconds: 3,
	peers: { nodes: 2, paths: { direct: 2 } },
	endpoints: 4,
	snatAddresses: ["192.0.2.1", "2001:db8::1"],
	services: {
		servedBy: ["Fairway serves all Services; kube-proxy is not needed."],
		count: 2,
		endpoints: { ready: 3, serving: 0, terminating: 1, unready: 0 },
		...{ ports: 4, frontends: 5, backends: 6, slots: 7, sourceRanges: 0 },
	},
	policies: {
		...{ synced: true, enforced: 3, staged: 1, unusable: 0, problems: 1 },
		pods: { open: 2, ruled: 1, notReady: 1 },
		...{ identities: 131072, blocks: 0, policies: 2, policyVerdicts: 3, portSets: 4, rules: 5 },
	},
	flows: { used: 10, max: 100 },
	mapMemory: { total: 5, perCpu: 1, maps: { flows: 5 } },
	drops: { spoofed_mac: 7 },
	events: { untracked: 1 },
	slowPath: {},
	eventLoop: { p50Ms: 1, p99Ms: 2, p999Ms: 3, maxMs: 4, seconds: 10 },
	sources: [{ kind: "Node", synced: true, stale: false, ageSeconds: 1.5, reconnects: 2 }],
	pending: 0,
	problems: ["one"],
} as unknown as Status;

const peer = (node: string, family: 4 | 6 = 4): PeerStatus => ({
	...{ node, family, podCIDRs: [], transportAddress: "192.168.0.1", path: "direct", mtu: 1500 },
	reason: "32 of 32 probes answered, 1500 bytes, 0.03 ms.",
	packets: { direct: 3, tunnel: 4 },
	bytes: { direct: 300, tunnel: 400 },
	received: { direct: 5, tunnel: 6 },
	...{ since: "", changes: 1, roundTripMs: 0.5, loss: null },
	probes: { sent: 9, answered: 8, late: 0 },
});

const sample = (peers: PeerStatus[]): Sample => ({
	...{ status, peers, snatPorts: 16384 },
	snatUse: [
		{ address: "192.0.2.1", protocol: "tcp", ports: 100, busiest: 70 },
		{ address: "198.51.100.9", protocol: "udp", ports: 2, busiest: 1 },
	],
	policies: [
		{
			...{ policy: "default/web", direction: "ingress" },
			...{ flows: 7, denied: 9, wouldAllow: 0, wouldDeny: 2 },
		},
	],
	serviceFlows: new Map([["default/web", 12]]),
	process: { cpuSeconds: 1, residentBytes: 2, heapBytes: 3 },
});

async function serve(t: Test, handle: RequestListener): Promise<string> {
	const server = createServer(handle).listen(0, "127.0.0.1");
	await once(server, "listening");
	t.teardown(() => {
		server.close();
		server.closeAllConnections();
	});
	return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test("addresses to listen at", async (t) => {
	t.same(listenAddress("127.0.0.1:9479"), { host: "127.0.0.1", port: 9479 });
	t.same(listenAddress(":1"), { host: undefined, port: 1 });
	t.same(listenAddress("[::1]:65535"), { host: "::1", port: 65535 });
	for (const bad of ["", "9479", "localhost:1", ":0", ":65536", "::1:9", "[1.2.3.4]:9", "1.2.3:9"])
		t.equal(listenAddress(bad), undefined, bad);
	t.ok(clash("127.0.0.1:1", ":1"));
	t.ok(clash("127.0.0.1:1", "127.0.0.1:1"));
	t.notOk(clash("127.0.0.1:1", "127.0.0.2:1"));
	t.notOk(clash("127.0.0.1:1", "127.0.0.1:2"));
	t.notOk(clash("", ""));
});

t.test("live while the loop turns; ready when packets flow, and from then on", async (t) => {
	const state = { ready: false, waitingFor: "its Node object" as string | undefined };
	const url = await serve(
		t,
		healthHandler(() => state),
	);
	const get = async (path: string) => (await fetch(url + path)).status;
	t.equal(await get("/livez"), 200);
	const response = await fetch(`${url}/readyz`);
	t.equal(response.status, 503);
	t.equal(await response.text(), "waiting for its Node object\n");
	Object.assign(state, { ready: true, waitingFor: undefined });
	t.equal(await get("/readyz"), 200);
	Object.assign(state, { ready: false, waitingFor: "its Node object" });
	t.equal(await get("/readyz"), 200, "the API's loss does not end forwarding");
	t.equal(await get("/other"), 404);
});

t.test("an address that is in use is a problem, and is taken when it is free", async (t) => {
	const blocker = createTcpServer().listen(0, "127.0.0.1");
	await once(blocker, "listening");
	const { port } = blocker.address() as AddressInfo;
	const listener = new Listener({
		key: "http.health",
		handle: healthHandler(() => ({ ready: true, waitingFor: undefined })),
		retryMs: 1,
	});
	t.teardown(() => listener.close());
	await listener.listen(`127.0.0.1:${port}`);
	t.equal(
		listener.problem,
		`Cannot listen at 127.0.0.1:${port} (http.health): another process listens there`,
	);
	blocker.close();
	for (let tries = 0; listener.problem !== undefined && tries < 500; tries++) await delay(2);
	t.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
	await listener.listen("");
	await t.rejects(fetch(`http://127.0.0.1:${port}/livez`));
});

t.test("a scrape has every metric, each with its type, and agrees with the sample", async (t) => {
	const durations = new CniDurations();
	const latency = new Histogram(SERVICE_LATENCY);
	for (const seconds of [0.02, 0.02, 99]) latency.observe("", seconds);
	const policies = new Histogram(POLICY_LATENCY);
	policies.observe("", 0.004);
	await durations.measure("ADD", Promise.resolve(0), (answer) => answer !== 0);
	await t.rejects(durations.measure("made up", Promise.reject(new Error("x")), () => false));
	const url = await serve(
		t,
		metricsHandler({
			sample: async () => sample([peer("node2"), peer("node2", 6)]),
			more: () => durations.text() + latency.text() + policies.text(),
			onError: t.error,
		}),
	);
	const response = await fetch(`${url}/metrics`);
	t.match(response.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
	const read = parseMetrics(await response.text());
	// Nothing was measured for it.
	const absent = ["fairway_peer_probe_loss_ratio"];
	for (const { name, type } of described) t.equal(read.types.get(name), type, name);
	for (const { name } of described.filter(({ name }) => !absent.includes(name)))
		t.ok(read.has(name) || name.includes("slow_path"), name);
	t.equal(
		read.value("fairway_peers", {
			path: "direct",
			reason: "N of N probes answered, N bytes, N ms",
		}),
		2,
	);
	t.equal(
		read.value("fairway_peer_sent_bytes_total", { peer: "node2", family: "6", path: "tunnel" }),
		400,
	);
	t.equal(read.value("fairway_peer_round_trip_seconds", { peer: "node2", family: "4" }), 0.0005);
	t.equal(read.value("fairway_drops_total", { reason: "spoofed_mac" }), 7);
	t.equal(read.value("fairway_drops_total", { reason: "spoofed_address" }) ?? 0, 0);
	t.equal(read.value("fairway_source_age_seconds", { kind: "Node" }), 1.5);
	t.equal(read.value("fairway_map_fill_ratio", { map: "flows" }), 0.1);
	const tcp = { address: "192.0.2.1", protocol: "tcp" };
	t.equal(read.value("fairway_snat_ports_used", tcp), 100);
	t.equal(read.value("fairway_snat_ports_free", tcp), 16284);
	t.equal(read.value("fairway_snat_ports_used_by_destination_max", tcp), 70);
	const unused = { address: "2001:db8::1", protocol: "icmp" };
	t.equal(read.value("fairway_snat_ports_used", unused), 0, "of an address in force, nothing used");
	t.equal(read.value("fairway_snat_ports_free", unused), 16384);
	const former = { address: "198.51.100.9", protocol: "udp" };
	t.equal(
		read.value("fairway_snat_ports_used", former),
		2,
		"an address that is no longer in force",
	);
	t.equal(read.value("fairway_cni_duration_seconds_count", { command: "ADD", result: "ok" }), 1);
	const inTime = { command: "ADD", result: "ok" };
	t.equal(read.value("fairway_cni_duration_seconds_bucket", { ...inTime, le: "+Inf" }), 1);
	t.equal(read.value("fairway_cni_duration_seconds_bucket", { ...inTime, le: "10" }), 1);
	t.equal(
		read.value("fairway_cni_duration_seconds_count", { command: "other", result: "error" }),
		1,
	);
	const programming = "fairway_service_programming_duration_seconds";
	t.equal(read.value(`${programming}_bucket`, { le: "0.01" }), 0);
	t.equal(read.value(`${programming}_bucket`, { le: "0.025" }), 2);
	t.equal(read.value(`${programming}_bucket`, { le: "+Inf" }), 3);
	t.equal(read.value(`${programming}_count`), 3);
	t.equal(read.value("fairway_services"), 2);
	const web = { policy: "default/web", direction: "ingress" };
	t.equal(read.value("fairway_policy_flows_total", web), 7);
	t.equal(read.value("fairway_policy_denied_total", web), 9);
	t.equal(read.value("fairway_policy_staged_total", { ...web, would: "deny" }), 2);
	t.equal(read.value("fairway_policies", { state: "staged" }), 1);
	const counted = { namespace: "default", service: "web" };
	t.equal(read.value("fairway_service_flows", counted), 12);
	t.equal(read.value("fairway_policy_endpoints", { state: "not_ready" }), 1);
	t.equal(read.value("fairway_map_fill_ratio", { map: "identities" }), 0.5);
	t.equal(read.value("fairway_policy_programming_duration_seconds_bucket", { le: "0.005" }), 1);
	t.equal(read.value("fairway_service_endpoints", { state: "terminating" }), 1);
	t.equal(read.value("fairway_map_fill_ratio", { map: "backends" }), 6 / 262144);
	t.match([...read.series("fairway_build_info")][0]?.labels, { kernel: 'a "quoted" \\ name' });
	t.equal((await fetch(`${url}/`)).status, 404);
});

t.test("5,000 Nodes in two families: no piece of a scrape takes 10 ms", async (t) => {
	const peers = Array.from({ length: 5000 }, (_, i) => [
		peer(`node${i}`),
		peer(`node${i}`, 6),
	]).flat();
	const pieces = exposition(sample(peers));
	// CPU time, because other processes may have the CPUs meanwhile.
	const cpuMs = () => {
		const { user, system } = process.threadCpuUsage?.() ?? process.cpuUsage();
		return (user + system) / 1000;
	};
	const times: number[] = [];
	let bytes = 0;
	for (;;) {
		const began = cpuMs();
		const { done, value } = pieces.next();
		times.push(cpuMs() - began);
		if (done) break;
		bytes += (value as string).length;
	}
	times.sort((a, b) => b - a);
	t.comment(
		`${times.length} pieces, ${bytes} bytes, longest ${times[0]?.toFixed(1)} ms, all ${times.reduce((a, b) => a + b).toFixed(0)} ms`,
	);
	t.ok(times.length > 100);
	// The first one compiles the code, and garbage is collected in one or two others.
	t.ok((times[3] ?? 0) < 10, `${times.slice(0, 4)}`);
});

t.test("scrapes run one after another, and too many are refused", async (t) => {
	let running = 0;
	const finish: (() => void)[] = [];
	const url = await serve(
		t,
		metricsHandler({
			sample: async () => {
				t.equal(++running, 1);
				await new Promise<void>((resolve) => finish.push(resolve));
				running--;
				return sample([]);
			},
			more: () => "",
			onError: t.error,
		}),
	);
	const scrapes = Array.from({ length: 9 }, () => fetch(`${url}/metrics`));
	const refused = await Promise.race(scrapes);
	t.equal(refused.status, 503);
	t.equal(refused.headers.get("retry-after"), "5");
	let done = 0;
	for (const scrape of scrapes) void scrape.then(() => done++);
	while (done < 9) {
		finish.shift()?.();
		await delay(1);
	}
	t.equal((await Promise.all(scrapes)).filter(({ status }) => status === 200).length, 8);
});

t.test("a peer's reason as a label has neither addresses, numbers nor names", async (t) => {
	for (const [reason, kind] of [
		[
			"192.168.2.1 is in another subnet, behind the gateway 192.168.1.254; ok.",
			"ADDRESS is in another subnet, behind the gateway ADDRESS",
		],
		[
			"fd00:192:168:2::1 is in another subnet, behind the gateway fd00::1.",
			"ADDRESS is in another subnet, behind the gateway ADDRESS",
		],
		["The mode is encap: always in a tunnel.", "The mode is encap: always in a tunnel"],
		["12 of 12 probes answered, 1500 bytes, 0.03 ms.", "N of N probes answered, N bytes, N ms"],
		["node2 has not answered.", "NODE has not answered"],
	] as const)
		t.equal(reasonKind(reason, "node2"), kind);
});
