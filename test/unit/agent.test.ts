/** The agent over a simulated kernel: everything is real except what touches this machine. */
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pino } from "pino";
import t from "tap";
import { Agent, type AgentOptions } from "../../src/agent/agent.js";
import type { Kernel, KernelOptions } from "../../src/agent/kernel.js";
import { agentSocket, ask, call } from "../../src/api/client.js";
import type { CheckAnswer } from "../../src/api/messages/check.js";
import type { EndpointStatus } from "../../src/api/messages/endpoints.js";
import type { PathEvent } from "../../src/api/messages/paths.js";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { ServiceStatus } from "../../src/api/messages/services.js";
import type { Status } from "../../src/api/messages/status.js";
import { CONFLIST, conflistText } from "../../src/cni/conflist.js";
import type { ErrorObject } from "../../src/cni/errors.js";
import type { CniResponse } from "../../src/cni/protocol.js";
import { parseConfig } from "../../src/config/parse.js";
import { until } from "../../src/lab/until.js";
import type { Network } from "../../src/linux/network.js";
import type { AdoptedPath } from "../../src/reconcile/maps/adopted_paths.js";
import { peerEntries } from "../../src/reconcile/maps/peer_entries.js";
import type { TableChanges } from "../../src/tables/changes.js";
import {
	Path,
	PathName,
	type Peer,
	PeerCounter,
	Probe,
	ProbeEvent,
	ProbeRecord,
	ProbeWay,
} from "../../src/tables/generated.js";
import { type HeldPeers, noServiceMaps, type Tables } from "../../src/tables/tables.js";
import * as world from "../packet/world.js";
import { makeTables } from "../packet/world.js";
import { type ApiObject, FakeCluster } from "../tools/fake_api/cluster.js";
import { FakeServer } from "../tools/fake_api/server.js";
import { PaperPolicies } from "../tools/paper_policies.js";
import { paperSurvey } from "../tools/paper_survey.js";
import { takeIn } from "../tools/taken_tables.js";

Object.assign(world.ifindex, { fairway0: 9, wire0: 2, pod0: 3, pod1: 4 });

class PaperKernel extends PaperPolicies implements Kernel {
	libbpf = "1.1";
	tableReader = makeTables(16);
	applied: Tables[] = [];
	resized: number[] = [];
	slots = 131_072;
	/** More are refused. */
	slotsMost = 2 ** 24;
	/** By host interface: why its Pod has no data path. */
	podProblems = new Map<string, string>();
	/** Sent so far; answered with `answer`, which tells a record with `tell`. */
	probes: Buffer[] = [];
	answer: ((packet: Buffer) => void) | undefined;
	tell: (record: Buffer) => void = () => undefined;
	adopted = new Map<number, AdoptedPath>();
	/** What an earlier agent left of peers. */
	held: HeldPeers = {
		peers: new Map(),
		peerPaths: new Map(),
		peerAddresses: new Map(),
		peerGateways: new Map(),
		routes: new Map(),
	};
	open = true;
	network: Network = {
		interfaces: [
			{
				name: "eth0",
				index: 2,
				mac: "02:00:00:00:00:01",
				mtu: 1500,
				up: true,
				addresses: [{ address: "192.168.1.11", prefixLength: 24 }],
			},
		],
		routes: [{ prefix: "192.168.1.0/24", device: "eth0", metric: 0 }],
	};
	/** Thrown by the next ones of these. */
	failures: { apply: Error[]; readNetwork: Error[] } = {
		apply: [],
		readNetwork: [],
	};
	ready = true;
	refused: string[] = [];
	#noticed: () => void = () => undefined;

	adoptedPeers(): { id: number; nodeHash: bigint }[] {
		return [...this.held.peers].map(([index, { nodeHash }]) => ({ id: index >> 1, nodeHash }));
	}
	peerEntries(ids: ReadonlySet<number>) {
		return peerEntries({ ...this.held }, ids);
	}
	serviceEntries() {
		return { ...noServiceMaps(), routes: this.held.routes };
	}
	adoptedPaths() {
		return this.adopted;
	}
	/** Paths that were put the short way. */
	paths: [index: number, peer: Peer][] = [];
	putPath(index: number, peer: Peer) {
		this.paths.push([index, peer]);
	}
	peerTotals() {
		return { sent: 0, received: 0 };
	}
	sendProbe(packet: Buffer) {
		// The buffer is reused for the next one.
		packet = Buffer.from(packet);
		this.probes.push(packet);
		this.answer?.(packet);
	}
	onProbeEvent(take: (record: Buffer) => void) {
		this.tell = take;
	}
	/** Applies wait for it. */
	applyGate: Promise<void> = Promise.resolve();
	async change(changes: TableChanges) {
		await this.applyGate;
		this.#fail(this.failures.apply);
		this.applied.push(takeIn(this.applied.at(-1), changes));
		return { pending: this.refused.length, ready: this.ready, writes: 1 };
	}
	async peerCounters() {
		const count = {
			...PeerCounter.decode(Buffer.alloc(PeerCounter.size)),
			directPackets: 3n,
			directBytes: 300n,
			tunnelPackets: 1n,
			tunnelBytes: 100n,
			receivedPackets: 7n,
			receivedTunnelPackets: 2n,
		};
		return new Map([[0, count]]);
	}
	counters() {
		return {
			drops: { spoofed_mac: 5n, no_endpoint: 0n },
			events: { untracked: 0n, mss_clamped: 2n },
		};
	}
	flowsUsed() {
		return 4;
	}
	async flowUsage(services: ReadonlyMap<number, string>) {
		const snat = [{ address: "192.168.1.1", protocol: "udp", ports: 3, busiest: 2 }];
		return { snat, services: new Map([...services.values()].map((service) => [service, 5])) };
	}
	serviceEntriesUsed() {
		return { ports: 1, frontends: 2, backends: 3, slots: 4, sourceRanges: 5 };
	}
	slowPath() {
		return { answered: 1, unanswered: 0, fragmented: 0, released: 0, expired: 0, failed: 0 };
	}
	podProblem(hostInterface: string) {
		return this.podProblems.get(hostInterface);
	}
	problems() {
		return this.refused;
	}
	async readNetwork() {
		this.#fail(this.failures.readNetwork);
		return this.network;
	}
	async denialNotes() {
		return [];
	}
	async *liveFlows() {
		yield [];
	}
	flowSlots() {
		return this.slots;
	}
	mapMemory() {
		return { total: 3 * 2 ** 20, perCpu: 2 ** 20, maps: { flows: 2 ** 21, drops: 2 ** 20 } };
	}
	async resizeFlows(max: number) {
		if (max === this.slots || max > this.slotsMost) return;
		this.slots = max;
		this.resized.push(max);
	}
	watchNetwork(onChange: () => void) {
		this.#noticed = onChange;
		return { close: () => undefined };
	}
	xdpMode() {
		return "native" as const;
	}
	async close() {
		this.open = false;
	}

	changeNetwork(network: Network) {
		this.network = network;
		this.#noticed();
	}
	#fail(errors: Error[]) {
		const error = errors.shift();
		if (error !== undefined) throw error;
	}
}

function node(name: string, number: number): object {
	return {
		apiVersion: "v1",
		kind: "Node",
		metadata: { name },
		spec: { podCIDRs: [`10.244.${number}.0/24`] },
		status: { addresses: [{ type: "InternalIP", address: `192.168.1.${10 + number}` }] },
	};
}

class Stage {
	readonly directory = mkdtempSync(join(tmpdir(), "fairway-agent-"));
	readonly kernel = new PaperKernel();
	readonly lines: { level: number; msg: string; [fact: string]: unknown }[] = [];
	readonly log = pino({ level: "info" }, { write: (line) => this.lines.push(JSON.parse(line)) });
	agent: Agent | undefined;

	constructor(config: string, ...nodes: object[]) {
		mkdirSync(this.#path("manifests"));
		this.configure(config);
		for (const [i, object] of nodes.entries()) this.manifest(`${i}.json`, object);
	}
	/** Default: the manifests. */
	cluster: AgentOptions["cluster"] | undefined;
	survey: AgentOptions["survey"];
	cniConfDir = "";
	async start(openKernel?: (options: KernelOptions) => Promise<Kernel>): Promise<void> {
		const config = parseConfig(this.#config, "config.yaml");
		if ("errors" in config) throw new Error("the test's own configuration is wrong");
		this.agent = await Agent.start({
			nodeName: "n1",
			configFile: this.#path("config.yaml"),
			config: config.config,
			cluster: this.cluster ?? { manifests: this.#path("manifests") },
			runDir: this.#path("run"),
			pinDir: this.#path("pin"),
			cniConfDir: this.cniConfDir,
			log: this.log,
			openKernel: openKernel ?? (async () => this.kernel),
			...(this.survey === undefined ? {} : { survey: this.survey }),
		});
	}
	async end(): Promise<void> {
		await this.agent?.stop();
		rmSync(this.directory, { recursive: true });
	}
	#config = "";
	/** Without HTTP: these agents share the machine's own network namespace. */
	configure(text: string): void {
		const proxy = text.includes("fairwayProxy:") ? "" : 'fairwayProxy: {healthServer: ""}\n';
		this.#config = `${text}\nhttp: {health: "", metrics: ""}\n${proxy}`;
		writeFileSync(this.#path("config.yaml"), this.#config);
	}
	manifest(file: string, content: object | string): void {
		const text = typeof content === "string" ? content : JSON.stringify(content);
		writeFileSync(this.#path("manifests", file), text);
	}
	remove(file: string): void {
		rmSync(this.#path("manifests", file));
	}
	get socket(): string {
		return agentSocket(this.#path("run"));
	}
	status(): Promise<Status> {
		return ask<Status>(this.socket, "GET", "/status");
	}
	peers(): Promise<PeerStatus[]> {
		return ask<PeerStatus[]>(this.socket, "GET", "/peers");
	}
	ready(): Promise<unknown> {
		return until("ready", async () => (await this.status()).ready);
	}
	logged(msg: string | RegExp) {
		const found = this.lines.filter((line) =>
			typeof msg === "string" ? line.msg === msg : msg.test(line.msg),
		);
		return found.length > 0 ? found : undefined;
	}
	#path(...parts: string[]): string {
		return join(this.directory, ...parts);
	}
}

function stage(
	t: { teardown(act: () => Promise<void>): void },
	config: string,
	...nodes: object[]
) {
	const made = new Stage(config, ...nodes);
	t.teardown(() => made.end());
	return made;
}

t.test("status, peers and endpoints", async (t) => {
	const config = "trafficEncapMode: hybrid\nhybrid: {direct: subnet}";
	const s = stage(t, config, node("n1", 1), node("n2", 2));
	await s.start();
	await s.ready();
	t.match(await s.status(), {
		node: "n1",
		mode: "hybrid",
		tunnelType: "geneve",
		xdp: "native",
		podCIDRs: ["10.244.1.0/24"],
		transport: { interface: "eth0", addresses: ["192.168.1.11"], mtu: 1500 },
		podMTU: 1500,
		snatAddresses: ["192.168.1.11"],
		version: /^\d+\.\d+\.\d+$/,
		kernel: /^\d+\.\d+/,
		libbpf: "1.1",
		pid: process.pid,
		peers: { nodes: 1, paths: { direct: 1 } },
		endpoints: 0,
		flows: { used: 4, max: 131072 },
		pending: 0,
		problems: [],
	});
	const status = await s.status();
	t.strictSame(status.drops, { spoofed_mac: 5 }, "only what is not zero");
	t.strictSame(status.events, { mss_clamped: 2 });
	t.strictSame(status.slowPath, { answered: 1 });
	t.strictSame(await ask<EndpointStatus[]>(s.socket, "GET", "/endpoints"), []);
	t.strictSame(await ask(s.socket, "GET", "/policies"), []);
	t.strictSame(await ask(s.socket, "GET", "/denials"), []);
	await t.rejects(ask(s.socket, "POST", "/policies", { body: { name: "none" } }), {
		message: /^Cannot show policy none: expected one that selects a Pod of this Node/,
	});
	await t.rejects(ask(s.socket, "POST", "/policy-diff", { body: { objects: [] } }), {
		message: /expected NetworkPolicies or ClusterNetworkPolicies, got none/,
	});
	const peers = await s.peers();
	t.strictSame(
		peers.map(({ reason: _, since: __, probes: ___, ...peer }) => peer),
		[
			{
				node: "n2",
				family: 4,
				podCIDRs: ["10.244.2.0/24"],
				transportAddress: "192.168.1.12",
				path: "direct",
				mtu: 1500,
				packets: { direct: 3, tunnel: 1 },
				bytes: { direct: 300, tunnel: 100 },
				received: { direct: 5, tunnel: 2 },
				changes: 0,
				roundTripMs: null,
				loss: null,
			},
		],
	);
	t.match(peers[0]?.probes, { sent: Number, answered: 0, late: 0 });
	t.match(peers[0]?.reason, /\.$/, "a sentence");
	t.ok(Math.abs(Date.parse(peers[0]?.since ?? "") - Date.now()) < 60_000, "since when");
	t.equal(s.logged("ready")?.length, 1, "said once");
	t.match(s.logged("peer added")?.[0], { peer: "n2", path: "direct" });
});

t.test("load balancers learn whether this Node serves Services, and stays", async (t) => {
	const port = await freePort();
	const proxy = (more: string) =>
		`fairwayProxy: {enable: true, healthServer: "127.0.0.1:${port}"${more}}`;
	const s = stage(t, proxy(""), node("n1", 1), node("n2", 2));
	await s.start();
	const code = (path: string) =>
		fetch(`http://127.0.0.1:${port}${path}`).then(
			({ status }) => status,
			() => "refused" as const,
		);
	await until("ready", async () => (await code("/healthz")) === 200);
	t.equal(await code("/livez"), 200);
	const leaving = { ...node("n1", 1), spec: { podCIDRs: ["10.244.1.0/24"], taints } };
	s.manifest("0.json", leaving);
	await until("the Node is to be deleted", async () => (await code("/healthz")) === 503);
	t.equal(await code("/livez"), 200, "it serves all the same");
	s.manifest("0.json", node("n1", 1));
	await until("the Node stays", async () => (await code("/healthz")) === 200);
	s.configure(proxy(", proxyAll: false"));
	await until("kube-proxy answers", async () => (await code("/healthz")) === "refused");
	s.configure(proxy(""));
	await until("Fairway answers", async () => (await code("/healthz")) === 200);
	s.configure(`fairwayProxy: {enable: false, healthServer: "127.0.0.1:${port}"}`);
	await until("kube-proxy answers", async () => (await code("/healthz")) === "refused");
});

t.test(
	"an agent starts where the endpoints of a Service are made of the directory's Pods",
	async (t) => {
		const s = stage(t, "", node("n1", 1));
		s.manifest("service.json", {
			...{ apiVersion: "v1", kind: "Service", metadata: { name: "web" } },
			spec: { clusterIP: "10.96.0.10", selector: { app: "web" }, ports: [{ port: 80 }] },
		});
		s.manifest("pod.json", {
			...{ apiVersion: "v1", kind: "Pod", metadata: { name: "web-0", labels: { app: "web" } } },
			...{ spec: { nodeName: "n1" }, status: { podIPs: [{ ip: "10.244.1.2" }] } },
		});
		await s.start();
		await s.ready();
		const [row] = await ask<ServiceStatus[]>(s.socket, "GET", "/services");
		t.match(row?.backends, [{ address: "10.244.1.2", port: 80, state: "ready" }]);
	},
);

t.test(
	"Services are listed, and healthCheckNodePort is served while the policy is Local",
	async (t) => {
		const port = await freePort();
		const proxy =
			'fairwayProxy: {enable: true, healthServer: "", nodePortAddresses: ["127.0.0.0/8"]}';
		const s = stage(t, proxy, node("n1", 1));
		const lo = { address: "127.0.0.1", prefixLength: 8 };
		const first = { name: "lo", index: 1, mac: "", mtu: 65536, up: true, addresses: [lo] };
		s.kernel.network = { ...s.kernel.network, interfaces: [first, ...s.kernel.network.interfaces] };
		const service = (externalTrafficPolicy: string, labels: object = {}) => ({
			...{ apiVersion: "v1", kind: "Service" },
			metadata: { namespace: "default", name: "web", labels },
			spec: {
				...{ type: "LoadBalancer", clusterIP: "10.96.0.10", externalTrafficPolicy },
				...{ ports: [{ name: "http", port: 80, nodePort: 30080 }], healthCheckNodePort: port },
			},
		});
		const slice = (ready: boolean) => ({
			...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", addressType: "IPv4" },
			metadata: { name: "web-1", labels: { "kubernetes.io/service-name": "web" } },
			ports: [{ name: "http", port: 8080 }],
			endpoints: [{ addresses: ["10.244.1.2"], nodeName: "n1", conditions: { ready } }],
		});
		s.manifest("service.json", service("Local"));
		s.manifest("slice.json", slice(true));
		await s.start();
		const count = () =>
			fetch(`http://127.0.0.1:${port}`).then(
				async (answer) => {
					const { localEndpoints } = (await answer.json()) as { localEndpoints: number };
					return [answer.status, localEndpoints];
				},
				() => "refused",
			);
		const becomes = (what: string, wanted: unknown) =>
			until(what, async () => JSON.stringify(await count()) === JSON.stringify(wanted));
		await becomes("a local endpoint", [200, 1]);
		const listed = await ask<ServiceStatus[]>(s.socket, "GET", "/services");
		t.match(listed, [
			{
				...{ namespace: "default", name: "web", port: 80, portName: "http", protocol: "TCP" },
				type: "LoadBalancer",
				frontends: [
					{ address: "10.96.0.10", port: 80, kind: "clusterIP" },
					{ address: "0.0.0.0", port: 30080, kind: "nodePort" },
				],
				backends: [{ address: "10.244.1.2", port: 8080, state: "ready" }],
			},
		]);
		const body = { namespace: "default", name: "web" };
		t.same(await ask(s.socket, "POST", "/services", { body }), listed);
		const { services } = await s.status();
		t.same(services, {
			servedBy: ["Fairway serves all Services; kube-proxy is not needed."],
			count: 1,
			endpoints: { ready: 1, serving: 0, terminating: 0, unready: 0 },
			...{ ports: 1, frontends: 2, backends: 3, slots: 4, sourceRanges: 5 },
		});
		await t.rejects(
			ask(s.socket, "POST", "/services", { body: { ...body, name: "no" } }),
			/web|no/,
		);
		s.manifest("slice.json", slice(false));
		await becomes("no local endpoint", [503, 0]);
		s.manifest("service.json", service("Cluster"));
		await becomes("the policy is Cluster", "refused");
		s.manifest("service.json", service("Local"));
		await becomes("the policy is Local", [503, 0]);
		s.manifest(
			"service.json",
			service("Local", { "service.kubernetes.io/service-proxy-name": "x" }),
		);
		await becomes("another proxy's", "refused");
	},
);

const taints = [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }];

async function freePort(): Promise<number> {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	server.close();
	return port;
}

t.test("waits for its Node object, and reports it", async (t) => {
	const s = stage(t, "", node("n2", 2));
	await s.start();
	const status = await until("a reason to wait", async () => {
		const now = await s.status();
		return now.waitingFor?.includes("n1") ? now : undefined;
	});
	t.equal(status.ready, false);
	t.strictSame(s.kernel.applied, [], "nothing is written");
	t.match(await call(s.socket, "POST", "/explain", { body: {} }), { status: 503 });
	s.manifest("self.json", node("n1", 1));
	await s.ready();
	t.equal((await s.status()).waitingFor, undefined);
	t.equal(s.kernel.applied.length, 1);

	s.remove("self.json");
	await until("not ready without a Node object", async () => !(await s.status()).ready);
	t.equal(s.kernel.applied.length, 1, "what is in force stays");
	t.equal((await s.peers()).length, 1);
	s.manifest("self.json", node("n1", 1));
	await s.ready();
	t.equal(s.logged("not ready")?.length, 2, "one line each time");
});

t.test("Nodes are added, changed and removed", async (t) => {
	const s = stage(t, "", node("n1", 1), node("n2", 2));
	await s.start();
	await s.ready();
	s.manifest("n3.json", node("n3", 3));
	await until("three Nodes", async () => (await s.peers()).length === 2);
	s.manifest("n3.json", node("n3", 4));
	await until("another pod CIDR", async () =>
		(await s.peers()).some(({ podCIDRs }) => podCIDRs.includes("10.244.4.0/24")),
	);
	s.remove("n3.json");
	await until("two Nodes", async () => (await s.peers()).length === 1);
	t.match(s.logged("peer removed"), [{ peer: "n3" }]);

	s.manifest("1.json", "kind: Node\n  broken: [");
	const { problems } = await until("a problem", async () => {
		const now = await s.status();
		return now.problems.length > 0 ? now : undefined;
	});
	t.match(problems, [/1\.json/], "the file is named");
	t.equal((await s.peers()).length, 1, "what it said before stays in force");
	s.manifest("1.json", node("n2", 2));
	await until("no problem", async () => (await s.status()).problems.length === 0);
	t.ok(s.logged("problem resolved"));
});

t.test("the configuration changes live", async (t) => {
	const s = stage(t, "trafficEncapMode: encap", node("n1", 1), node("n2", 2));
	await s.start();
	await s.ready();
	const path = () => {
		const [peer] = s.kernel.applied.at(-1)?.peers.values() ?? [];
		return PathName[peer?.path ?? 0];
	};
	t.equal(path(), "geneve");
	s.configure("trafficEncapMode: encap\ntunnelType: vxlan\n");
	await until("VXLAN", async () => (await s.status()).tunnelType === "vxlan" && path() === "vxlan");
	s.configure("trafficEncapMode: noEncap\nlog: {level: debug}\nflows: {max: 65536}\n");
	await until("direct", async () => path() === "direct");
	t.match(await s.status(), { mode: "noEncap", flows: { max: 65536 } });
	t.strictSame(s.kernel.resized, [65536]);
	t.equal(s.log.level, "debug");
	const events = await ask<PathEvent[]>(s.socket, "GET", "/events");
	t.strictSame(
		events.map(({ node: who, from, to }) => [who, from, to]),
		[
			["n2", null, "geneve"],
			["n2", "geneve", "vxlan"],
			["n2", "vxlan", "direct"],
		],
	);
	t.match(events.at(-1), { time: /^\d{4}-.*Z$/, family: 4, mtu: 1500, reason: /noEncap/ });
	t.match(await s.peers(), [{ changes: 2, since: events.at(-1)?.time }]);
	t.match(await s.status(), { probes: { sent: Number, answered: 0, changes: 2 } });
	const changed = s.logged("configuration reloaded")?.at(-1)?.changes;
	t.match(changed, [{ key: "trafficEncapMode", from: '"encap"', to: '"noEncap"' }]);

	const applies = s.kernel.applied.length;
	s.configure("trafficEncapMode: sideways\nsnat: {portRange: 7}\n");
	const { problems, mode } = await until("a refusal", async () => {
		const now = await s.status();
		return now.problems.length > 0 ? now : undefined;
	});
	t.equal(mode, "noEncap", "the former stays in force");
	t.match(problems, [/config\.yaml:1:19: .*"sideways"/, /config\.yaml:2:/], "every error");
	t.ok(s.logged(/^invalid configuration ignored/));
	t.equal(s.kernel.applied.length, applies);
	s.configure("trafficEncapMode: noEncap\nflows: {max: 65536}\n");
	await until("no problem", async () => (await s.status()).problems.length === 0);

	s.configure("trafficEncapMode: noEncap\nfairwayProxy: {enable: false}\n");
	const refused = await until("a refusal", async () => {
		const now = await s.status();
		return now.problems.length > 0 ? now : undefined;
	});
	t.match(refused.problems, [/config\.yaml:2:24: Cannot use fairwayProxy\.enable: expected true/]);
	t.strictSame(refused.limitations, [], "Services stay Fairway's");
	s.configure("trafficEncapMode: encap\nfairwayProxy: {enable: false}\n");
	const without = await until("Services are kube-proxy's", async () => {
		const now = await s.status();
		return now.mode === "encap" ? now : undefined;
	});
	t.match(without.limitations, [/^Egress NetworkPolicy judges the addresses of Services/]);
	t.strictSame(without.problems, []);
});

t.test("checks its paths", async (t) => {
	const s = stage(t, "trafficEncapMode: noEncap", node("n1", 1), node("n2", 2));
	const asked: unknown[] = [];
	s.survey = async (peer) => {
		asked.push(peer);
		return [paperSurvey("n2", 4, { direct: {}, tunnel: { there: 1450, back: 1450 } })];
	};
	await s.start();
	await s.ready();
	const answer = await ask<CheckAnswer>(s.socket, "POST", "/check", { body: {} });
	t.match(answer, {
		node: "n1",
		mode: "noEncap",
		peers: [
			{ node: "n2", verdicts: { noEncap: { outcome: "lost" }, hybrid: { outcome: "geneve" } } },
		],
		modes: [{ mode: "encap" }, { mode: "hybrid" }, { mode: "noEncap", lost: [{ node: "n2" }] }],
		causes: [{ id: "pod-addresses", peers: [{ node: "n2", suffers: "both" }] }],
	});
	await ask(s.socket, "POST", "/check", { body: { peer: "n2" } });
	await ask(s.socket, "POST", "/check", { body: { peer: ["n2", "n2"] } });
	t.strictSame(asked, [undefined, ["n2"], ["n2", "n2"]]);
	const rows: [unknown, number, RegExp][] = [
		[{ peer: "n9" }, 422, /n9: expected another Node of the cluster \(n2\)/],
		[{ peer: "n1" }, 422, /n1/],
		[{ peer: 7 }, 400, /got a peer without a name/],
		[{ peer: [] }, 400, /got a peer without a name/],
		[{ peer: ["n2", "n9"] }, 422, /Cannot check n9/],
		[["n2"], 400, /expected \{"peer": NODE or \[NODE, ...\]\} or \{\}/],
	];
	for (const [body, status, error] of rows) {
		t.match(await call(s.socket, "POST", "/check", { body }), { status, body: { error } });
	}
	t.equal(asked.length, 3, "nobody is asked for a bad request");

	const waiting = stage(t, "", node("n2", 2));
	await waiting.start();
	t.match(await call(waiting.socket, "POST", "/check"), { status: 503 }, "not set up");
});

/** The core's record of the answer to this request of n1 to n2; IPv4. */
function answerTo(packet: Buffer): Buffer {
	const { sequence, wayThere, wayBack, length, answerLength } = Probe.decode(packet.subarray(28));
	return ProbeRecord.encode({
		event: ProbeEvent.ANSWERED,
		...{ wayThere, wayBack, announced: 0, index: 0, sequence, length, answerLength },
		sentAt: 0n,
		roundTrip: 200_000n,
		...{ sentPackets: 0, sentLarge: 0, receivedPackets: 0, receivedLarge: 0 },
	});
}

t.test("a path changes although an apply waits", async (t) => {
	const s = stage(t, "trafficEncapMode: hybrid", node("n1", 1), node("n2", 2));
	await s.start();
	await s.ready();
	let open = () => {};
	s.kernel.applyGate = new Promise((resolve) => {
		open = resolve;
	});
	// Begins an apply, which waits from now on.
	s.manifest("9.json", node("n3", 3));
	s.kernel.answer = (packet) => setImmediate(() => s.kernel.tell(answerTo(packet)));
	await until("the path is put", async () => s.kernel.paths.length > 0);
	t.match(s.kernel.paths, [[0, { path: Path.DIRECT, remote: "192.168.1.12", mtu: 1500 }]]);
	t.match(await s.peers(), [{ path: "geneve" }], "the apply has not ended");
	open();
	await until("it has", async () => (await s.peers())[0]?.path === "direct");
	t.same(s.kernel.applied.at(-1)?.peers.get(0), s.kernel.paths[0]?.[1], "the same entry");
});

t.test("a path is direct while probes prove it", async (t) => {
	const s = stage(t, "trafficEncapMode: hybrid", node("n1", 1), node("n2", 2));
	const path = async () => (await s.peers())[0]?.path;
	let fails = (_: Probe) => false;
	s.kernel.answer = (packet) => {
		if (!fails(Probe.decode(packet.subarray(28))))
			setImmediate(() => s.kernel.tell(answerTo(packet)));
	};
	await s.start();
	await s.ready();
	t.match(s.logged("peer added")?.[0], { peer: "n2", path: "geneve" }, "in the tunnel at first");
	await until("direct", async () => (await path()) === "direct");
	t.match(await s.peers(), [
		{
			...{ mtu: 1500, changes: 1, roundTripMs: 0.2, reason: /^direct: \d+ of \d+ probes answered/ },
			probes: { late: 0 },
		},
	]);
	t.match(
		[...(s.kernel.applied.at(-1)?.peers.values() ?? [])],
		[{ path: Path.DIRECT }, { path: 0 }],
	);
	t.match(await ask<CheckAnswer>(s.socket, "POST", "/check", { body: {} }), {
		peers: [{ node: "n2", verdicts: { hybrid: { outcome: "direct" } } }],
	});

	fails = ({ wayThere, wayBack }) => wayThere === ProbeWay.DIRECT || wayBack === ProbeWay.DIRECT;
	s.kernel.tell(
		ProbeRecord.encode({ ...ProbeRecord.decode(Buffer.alloc(56)), event: ProbeEvent.TRAFFIC }),
	);
	await until("geneve", async () => (await path()) === "geneve");
	t.match(await s.peers(), [{ mtu: 1450, changes: 2, reason: /^geneve: / }]);
	await s.agent?.stop();
	const remembered = JSON.parse(readFileSync(join(s.directory, "run", "paths.json"), "utf8"));
	t.match(remembered, {
		version: 1,
		holds: { "n2/4": 5000 },
		ages: { "n2/4": { path: "geneve" } },
	});

	s.kernel.answer = undefined;
	s.kernel.adopted.set(0, {
		direct: true,
		flags: 0,
		mtu: 1500,
		answeredAgo: 1000,
		largeAnsweredAgo: 1000,
	});
	await s.start();
	await s.ready();
	t.equal(s.logged("peer added")?.at(-1)?.path, "direct", "as an earlier agent left it");
	const events = await ask<PathEvent[]>(s.socket, "GET", "/events");
	t.strictSame(
		events.map(({ from, to }) => [from, to]),
		[
			[null, "geneve"],
			["geneve", "direct"],
			["direct", "geneve"],
			["geneve", "direct"],
		],
		"what was before the restart is not forgotten",
	);
});

t.test("the container runtime gets its configuration when the Node is ready", async (t) => {
	const s = stage(t, "", node("n2", 2));
	s.cniConfDir = join(s.directory, "net.d");
	const file = join(s.cniConfDir, CONFLIST);
	const add = async () => {
		const config = { cniVersion: "1.0.0", name: "fairway", socket: s.socket };
		const variables = { containerId: "c", netns: "/run/netns/none", ifName: "eth0", args: "" };
		const body = { command: "ADD", ...variables, config };
		return (await ask<CniResponse>(s.socket, "POST", "/cni", { body })).body as ErrorObject;
	};
	// As an earlier boot has left it.
	mkdirSync(s.cniConfDir);
	writeFileSync(file, "{}");
	writeFileSync(join(s.cniConfDir, "00-other.conf"), '{"type":"bridge"}');
	await s.start();
	await until("it has looked", async () => (await s.status()).waitingFor !== undefined);
	t.match(await add(), { code: 11, msg: "Cannot attach Pods: the Node is not ready" });
	t.equal(readFileSync(file, "utf8"), "{}", "not before the Node is ready");
	t.match((await s.status()).problems, [/The container runtime uses .*00-other\.conf \(bridge\)/]);

	s.manifest("1.json", node("n1", 1));
	await s.ready();
	t.equal(readFileSync(file, "utf8"), conflistText(s.socket));
	t.match(await add(), { code: 4 }, "it is looked at, and there is no such namespace");
	await s.agent?.stop();
	t.equal(readFileSync(file, "utf8"), conflistText(s.socket), "stays");
});

t.test("failures are retried", async (t) => {
	const s = stage(t, "", node("n1", 1), node("n2", 2));
	s.kernel.failures.readNetwork.push(new Error("Cannot read the network: no"));
	s.kernel.failures.apply.push(new Error("Cannot apply: no"), new Error("Cannot apply: no"));
	await s.start();
	await s.ready();
	t.match(s.logged("apply failed, will retry"), [
		{ err: { message: "Cannot read the network: no" } },
		{ err: { message: "Cannot apply: no" } },
		{ err: { message: "Cannot apply: no" } },
	]);
	t.strictSame((await s.status()).problems, [], "and forgotten when it has succeeded");
});

t.test(
	"a flow table that cannot be had: the rest is applied, and the size in force is shown",
	async (t) => {
		const s = stage(t, "", node("n1", 1), node("n2", 2));
		await s.start();
		await s.ready();
		s.kernel.slotsMost = 131_072;
		s.kernel.refused = ["Cannot resize the flow table to 1048576: no memory"];
		s.configure("trafficEncapMode: noEncap\nflows: {max: 1048576}");
		await until("the mode is applied", async () => (await s.peers())[0]?.path === "direct");
		t.match(await s.status(), {
			ready: true,
			problems: ["Cannot resize the flow table to 1048576: no memory"],
			flows: { max: 131_072 },
		});
		t.strictSame(
			s.logged("a change could not be applied") ?? [],
			[],
			"no apply, and so no ADD, fails for it",
		);
		s.kernel.slotsMost = 2 ** 24;
		s.configure("trafficEncapMode: noEncap\nflows: {max: 65536}");
		await until("another size", async () => (await s.status()).flows.max === 65_536);
	},
);

t.test("is not ready before the kernel has everything that packets need", async (t) => {
	const s = stage(t, "", node("n1", 1));
	s.kernel.ready = false;
	s.kernel.refused = ["Cannot attach from_wire to eth0: no program"];
	await s.start();
	const status = await until("a problem", async () => {
		const now = await s.status();
		return now.pending > 0 && now.waitingFor?.includes("kernel") ? now : undefined;
	});
	t.equal(status.ready, false);
	t.strictSame(status.problems, s.kernel.refused, "each once");
	s.kernel.ready = true;
	s.kernel.refused = [];
	await s.ready();
});

t.test("a change of the kernel's network causes an apply", async (t) => {
	const s = stage(t, "", node("n1", 1), node("n2", 2));
	await s.start();
	await s.ready();
	const [eth0] = s.kernel.network.interfaces;
	if (eth0 === undefined) throw new Error("the test's own network is empty");
	s.kernel.changeNetwork({ ...s.kernel.network, interfaces: [{ ...eth0, mtu: 9000 }] });
	await until("the new MTU", async () => (await s.status()).transport.mtu === 9000);
	t.match(s.logged("peer changed"), [{ peer: "n2", mtu: 8950 }]);
});

t.test("a thousand changes cause few applies, and the last one counts", async (t) => {
	const s = stage(t, "", node("n1", 1));
	await s.start();
	await s.ready();
	const before = s.kernel.applied.length;
	for (let i = 0; i < 1000; i++) s.manifest("2.json", node("n2", 2 + (i % 200)));
	await until("the last one", async () => (await s.peers())[0]?.podCIDRs[0] === "10.244.201.0/24");
	t.ok(s.kernel.applied.length - before < 200, `${s.kernel.applied.length - before} applies`);
});

t.test("a start that fails leaves nothing behind", async (t) => {
	const s = stage(t, "", node("n1", 1));
	await t.rejects(
		s.start(async () => {
			throw new Error("Cannot open the kernel: no");
		}),
		{ message: "Cannot open the kernel: no" },
	);
	t.strictSame(readdirSync(join(s.directory, "run")), ["lock"], "no socket");
	await s.start();
	await s.ready();
	const first = s.agent;
	await t.rejects(s.start(), { message: /locked by another agent/ });
	t.equal(s.agent, first);
	t.equal((await s.status()).ready, true, "the first is not disturbed");
	await s.agent?.stop();
	t.equal(s.kernel.open, false);
	await t.rejects(s.status(), { code: "ENOENT" });
});

t.test("after a restart, peers stay until every manifest can be read", async (t) => {
	const first = stage(t, "", node("n1", 1), node("n2", 2), node("n3", 3));
	await first.start();
	await first.ready();
	const held = first.kernel.applied.at(-1)!;
	const idOf = (name: string) => held.peerAddresses.get(`192.168.1.1${name.slice(1)}`)!;

	const second = stage(t, "", node("n1", 1));
	second.manifest("2.json", "[broken");
	second.kernel.held = held;
	await second.start();
	await second.ready();
	const last = () => second.kernel.applied.at(-1)!;
	t.match(await second.status(), {
		problems: [/^2\.json: Cannot use/, /Cannot tell whether 2 former peers are still Nodes/],
	});
	for (const table of ["peers", "peerPaths", "peerAddresses", "peerGateways", "routes"] as const)
		t.same([...last()[table]].sort(), [...held[table]].sort(), table);
	t.same(last().hostRoutes, held.hostRoutes);

	// One of them is known, and goes.
	second.manifest("3.json", node("n3", 3));
	await until("n3 is a peer", async () => (await second.peers()).length === 1);
	t.equal(last().peerAddresses.get("192.168.1.13"), idOf("n3"), "with the id that it had");
	second.remove("3.json");
	await until("n3 is gone", async () => (await second.peers()).length === 0);
	t.notOk(last().routes.has("10.244.3.0/24"), "which was seen to go");
	t.ok(last().routes.has("10.244.2.0/24"));

	second.manifest("2.json", node("n4", 4));
	await until("n4 is a peer", async () => (await second.peers()).length === 1);
	t.notOk(last().routes.has("10.244.2.0/24"), "now it is known that n2 is gone");
	t.match(await second.status(), { problems: [] });
});

t.test("the Kubernetes API as a source, and a restart without it", async (t) => {
	const cluster = new FakeCluster();
	for (const [name, number] of Object.entries({ n1: 1, n2: 2, n3: 3 }))
		cluster.put("nodes", node(name, number) as ApiObject);
	cluster.put("servicecidrs", {
		...{ metadata: { name: "kubernetes" }, spec: { cidrs: ["10.96.0.0/12"] } },
	});
	const server = await new FakeServer(cluster).start();
	t.teardown(() => server.stop());
	const made = new Stage("");
	t.teardown(() => made.end());
	const access = { servers: [new URL(server.url)], ca: server.authority.certificate };
	made.cluster = { kubernetes: async () => access };
	await made.start();
	await made.ready();
	const peers = async () => (await made.peers()).map(({ node }) => node).join();
	await until("both peers", async () => (await peers()) === "n2,n3");
	await until("the service CIDR", () => made.kernel.applied.at(-1)?.routes.has("10.96.0.0/12"));
	await until("all kinds", async () =>
		(await made.status()).sources.every(({ synced, stale }) => synced && !stale),
	);
	t.match(
		(await made.status()).sources.map(({ kind }) => kind),
		[
			...["Node", "ServiceCIDR", "Service", "Pod", "EndpointSlice"],
			...["Namespace", "NetworkPolicy", "ClusterNetworkPolicy"],
		],
	);
	t.strictSame((await made.status()).problems, []);
	cluster.remove("nodes", "n3");
	await until("one peer", async () => (await peers()) === "n2");
	t.match(await ask(made.socket, "GET", "/policies"), []);
	await made.agent?.stop();
	await server.stop();

	const policy = {
		...{ kind: "NetworkPolicy", namespace: "x", name: "a", tier: null, priority: null, rules: 2 },
		...{ pods: { ingress: 1, egress: 0 }, isStaged: false, unusable: null },
	};
	const rule = { direction: "ingress", kind: "NetworkPolicy", policies: ["x/a"], rule: 0 };
	const summary = { enforced: 1, staged: 0, unusable: 0, pods: { open: 0, ruled: 1, notReady: 0 } };
	const named = { format: 1, rules: [[7, rule]], policies: [policy], summary };
	writeFileSync(join(dirname(made.socket), "policies.json"), JSON.stringify(named));
	await made.start();
	await made.ready();
	t.equal(await peers(), "n2");
	t.match(
		await ask(made.socket, "GET", "/policies"),
		[{ ...policy, denied: { packets: 0 }, isFormer: true }],
		"what an earlier agent left is named",
	);
	t.match(made.agent?.policies.rule(7), { policies: ["x/a"] });
	t.match((await made.status()).policies, { synced: false, ...summary });
	const status = await made.status();
	t.match(status.sources[0], { kind: "Node", synced: false, stale: true, ageSeconds: null });
	await until("the problem", async () =>
		(await made.status()).problems.some((problem) =>
			/^Cannot reach the Kubernetes API/.test(problem),
		),
	);
});
