/**
 * The client of src/kube against the real API server and etcd, without Nodes: what test/unit/kube_source.test.ts
 * shows with the fake server is true of the real one. Two API servers on one etcd, in a network namespace of
 * their own:
 *
 *   this process ── https://127.0.0.1:6443 ─┐
 *                └─ https://127.0.0.1:6444 ─┴─ etcd 127.0.0.1:2379
 *
 * `node --import=tsx test/kubernetes/client.ts` prints TAP; the suite "client" of npm run test:cluster runs it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
	closeSync,
	cpSync,
	mkdirSync,
	mkdtempSync,
	openSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { Store } from "../../src/cluster/store.js";
import type { Access } from "../../src/kube/access.js";
import { ApiClient } from "../../src/kube/api_client.js";
import { systemClock } from "../../src/kube/clock.js";
import { KubernetesSource } from "../../src/kube/kubernetes_source.js";
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { Authority } from "../tools/fake_api/certificates.js";
import { program } from "./layout.js";

const PATIENCE_MS = 60_000;

/** Runs this file in namespaces of its own, which end with it. */
export function clientTests(parent: Test): Promise<unknown> {
	const self = fileURLToPath(import.meta.url);
	const own = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
	const command = [process.execPath, "--import=tsx", self, "inside"];
	return parent.spawn("unshare", [...own, ...command], "client") as Promise<unknown>;
}

class ControlPlane {
	readonly directory = mkdtempSync(join(tmpdir(), "fairway-api-"));
	readonly authority = new Authority();
	readonly #running = new Map<string, ChildProcess>();

	constructor() {
		const { certificate, key } = this.authority.issue("kube-apiserver", ["127.0.0.1"]);
		const account = generateKeyPairSync("ec", { namedCurve: "P-256" });
		const files = {
			"ca.crt": this.authority.certificate,
			"api.crt": certificate,
			"api.key": key,
			"account.key": account.privateKey.export({ type: "pkcs8", format: "pem" }),
			"account.pub": account.publicKey.export({ type: "spki", format: "pem" }),
		};
		for (const [name, text] of Object.entries(files)) writeFileSync(this.file(name), text);
	}

	file(name: string): string {
		return join(this.directory, name);
	}

	startEtcd(): void {
		this.#start("etcd", program("etcd"), [
			...["--data-dir", this.file("data"), "--unsafe-no-fsync"],
			...["--listen-client-urls", "http://127.0.0.1:2379"],
			...["--advertise-client-urls", "http://127.0.0.1:2379"],
			...["--listen-peer-urls", "http://127.0.0.1:2380"],
		]);
	}

	/** Resolves when it is ready. */
	async startServer(port: number, ...more: string[]): Promise<void> {
		this.#start(`api-${port}`, program("kube-apiserver"), [
			...["--etcd-servers", "http://127.0.0.1:2379", "--secure-port", String(port)],
			...["--advertise-address", "127.0.0.1", "--bind-address", "127.0.0.1"],
			...["--endpoint-reconciler-type", "none", "--authorization-mode", "RBAC"],
			...["--tls-cert-file", this.file("api.crt"), "--tls-private-key-file", this.file("api.key")],
			...["--client-ca-file", this.file("ca.crt")],
			...["--service-account-issuer", "https://kubernetes.default.svc"],
			...["--service-account-key-file", this.file("account.pub")],
			...["--service-account-signing-key-file", this.file("account.key")],
			...["--service-cluster-ip-range", "10.96.0.0/16", "--shutdown-delay-duration", "0s"],
			...more,
		]);
		const user = new User(this.access(port));
		try {
			await until("ready", async () => (await user.ask("GET", "/readyz")) === 200, PATIENCE_MS);
		} finally {
			user.close();
		}
	}

	async end(...names: string[]): Promise<void> {
		for (const name of names) {
			const child = this.#running.get(name);
			this.#running.delete(name);
			if (child === undefined || child.exitCode !== null) continue;
			const ended = once(child, "exit");
			child.kill("SIGKILL");
			await ended;
		}
	}

	signal(name: string, signal: NodeJS.Signals): void {
		this.#running.get(name)?.kill(signal);
	}

	async close(): Promise<void> {
		await this.end(...this.#running.keys());
		rmSync(this.directory, { recursive: true });
	}

	/** Of an administrator, at the servers on these ports. */
	access(...ports: number[]): Access {
		const { certificate, key } = this.authority.issue("admin", [], "system:masters");
		const servers = ports.map((port) => new URL(`https://127.0.0.1:${port}`));
		return { servers, ca: this.authority.certificate, certificate, key };
	}

	#start(name: string, file: string, args: string[]): void {
		const log = openSync(this.file(`${name}.log`), "a");
		this.#running.set(name, spawn(file, args, { stdio: ["ignore", log, log] }));
		closeSync(log);
	}
}

/** Somebody else who uses the API. */
class User {
	readonly #client: ApiClient;
	readonly #signal = new AbortController().signal;

	constructor(access: Access) {
		this.#client = new ApiClient({ access: async () => access, clock: systemClock });
	}

	async ask(method: "GET" | "POST" | "DELETE" | "PATCH", path: string, body?: object) {
		const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
		const call = { method, path, signal: this.#signal, contentType };
		const answer = await this.#client.send(body === undefined ? call : { ...call, body });
		for await (const _ of answer.body);
		return answer.status;
	}

	addNode(name: string, number: number, more: object = {}): Promise<number> {
		const podCIDR = `10.${100 + (number >> 8)}.${number & 255}.0/24`;
		const object = {
			...{ apiVersion: "v1", kind: "Node", metadata: { name } },
			spec: { podCIDR, podCIDRs: [podCIDR], ...more },
		};
		return this.ask("POST", "/api/v1/nodes", object);
	}

	removeNode(name: string): Promise<number> {
		return this.ask("DELETE", `/api/v1/nodes/${name}`);
	}

	close(): void {
		this.#client.close();
	}
}

/** The client, as an agent of n1 has it. */
class Client {
	readonly store = new Store();
	readonly source: KubernetesSource;

	private constructor(store: Store, source: KubernetesSource) {
		this.store = store;
		this.source = source;
	}

	static async start(t: Test, access: Access): Promise<Client> {
		const runDir = mkdtempSync(join(tmpdir(), "fairway-client-"));
		const store = new Store();
		const onError = (error: Error) => t.fail(error.message);
		const read = async () => access;
		const options = { access: read, store, nodeName: "n1", runDir, onError };
		const client = new Client(store, await KubernetesSource.open(options));
		t.teardown(async () => {
			await client.source.close();
			rmSync(runDir, { recursive: true });
		});
		await client.live();
		return client;
	}

	live(): Promise<unknown> {
		const facts = () => this.source.facts();
		return until("live", () => facts().every(({ synced, stale }) => synced && !stale), PATIENCE_MS);
	}

	get nodes(): string {
		return [...this.store.keys("Node")].sort().join(" ");
	}

	has(nodes: string): Promise<unknown> {
		return until(`${nodes}, not ${this.nodes}`, () => this.nodes === nodes, PATIENCE_MS);
	}
}

async function inside(): Promise<void> {
	await run(["ip", "link", "set", "lo", "up"]);
	const plane = new ControlPlane();
	t.teardown(() => plane.close());
	mkdirSync(plane.file("data"), { mode: 0o700 });
	plane.startEtcd();
	await plane.startServer(6443);
	await plane.startServer(6444);
	const user = new User(plane.access(6444, 6443));
	t.teardown(() => user.close());

	await t.test("lists are streamed and followed", async (t) => {
		await user.addNode("n1", 1);
		await user.addNode("n2", 2);
		const client = await Client.start(t, plane.access(6443));
		t.equal(client.nodes, "n1 n2");
		t.match(client.store.get("ServiceCIDR", "kubernetes"), { cidrs: ["10.96.0.0/16"] });
		await user.addNode("n3", 3);
		await client.has("n1 n2 n3");
		await user.removeNode("n3");
		await client.has("n1 n2");
		await user.removeNode("n2");
		await user.addNode("n2", 9);
		const cidrs = () => client.store.get("Node", "n2")?.podCIDRs.join();
		await until("another Node n2", () => cidrs() === "10.100.9.0/24", PATIENCE_MS);
		t.strictSame(client.store.problems(), []);
	});

	await t.test("a server that falls silent is left for the other one", async (t) => {
		const client = await Client.start(t, plane.access(6443, 6444));
		plane.signal("api-6443", "SIGSTOP");
		try {
			await user.addNode("n3", 3);
			const began = Date.now();
			await client.has("n1 n2 n3");
			t.comment(`${Date.now() - began} ms`);
			await client.live();
		} finally {
			plane.signal("api-6443", "SIGCONT");
		}
		const { reconnects } = client.source.facts()[0]!;
		t.equal(reconnects, 1);
	});

	await t.test("a deletion while the only server is away is seen when it is back", async (t) => {
		const client = await Client.start(t, plane.access(6443));
		await plane.end("api-6443");
		await user.removeNode("n3");
		await user.addNode("n4", 4);
		await until("the problem", () => client.store.problems().length > 0, PATIENCE_MS);
		t.equal(client.nodes, "n1 n2 n3");
		// Its watch cache begins anew: the version is too old for it (410).
		await plane.startServer(6443);
		await client.has("n1 n2 n4");
		await client.live();
		t.strictSame(client.store.problems(), []);
	});

	await t.test("the taint is taken off, and an Event is taken", async (t) => {
		await user.removeNode("n1");
		const taints = [{ key: "fairway.dev/agent-not-ready", effect: "NoSchedule" }];
		await user.addNode("n1", 1, { taints });
		const client = await Client.start(t, plane.access(6443));
		const { reporter } = client.source;
		reporter.ready(true);
		reporter.pathsChanged([
			{ peer: "n2", family: 4, from: "direct", to: "geneve", reason: "Probes are lost." },
		]);
		const access = plane.access(6443);
		const reader = new ApiClient({ access: async () => access, clock: systemClock });
		t.teardown(() => reader.close());
		const read = async (path: string): Promise<string> => {
			const answer = await reader.send({ path, signal: new AbortController().signal });
			let text = "";
			for await (const chunk of answer.body) text += chunk.toString();
			return text;
		};
		const taint = '"key":"fairway.dev/agent-not-ready"';
		await until("no taint", async () => !(await read("/api/v1/nodes/n1")).includes(taint));
		const events = "/apis/events.k8s.io/v1/namespaces/default/events";
		await until("the Event", async () => (await read(events)).includes("Path to Node n2"));
		t.strictSame(client.store.problems(), []);
	});

	await t.test("a server without streamed lists is asked for pages", async (t) => {
		await plane.end("api-6444");
		await plane.startServer(6444, "--feature-gates=WatchList=false");
		for (let i = 10; i < 1110; i += 50)
			await Promise.all(Array.from({ length: 50 }, (_, k) => user.addNode(`m${i + k}`, i + k)));
		const client = await Client.start(t, plane.access(6444));
		t.equal([...client.store.keys("Node")].length, 1103);
		await user.addNode("n5", 5);
		await until("a change", () => client.store.get("Node", "n5") !== undefined, PATIENCE_MS);
	});

	await t.test("etcd restored from an older copy: what it has counts", async (t) => {
		await plane.end("api-6443", "api-6444", "etcd");
		cpSync(plane.file("data"), plane.file("copy"), { recursive: true });
		plane.startEtcd();
		await plane.startServer(6443);
		const client = await Client.start(t, plane.access(6443));
		const before = client.nodes;
		await user.removeNode("n2");
		await user.addNode("n7", 7);
		await until("the changes", () => client.store.get("Node", "n7") !== undefined, PATIENCE_MS);
		await plane.end("api-6443", "etcd");
		rmSync(plane.file("data"), { recursive: true });
		cpSync(plane.file("copy"), plane.file("data"), { recursive: true });
		plane.startEtcd();
		await plane.startServer(6443);
		await client.has(before);
		await client.live();
		await user.addNode("n8", 8);
		await until("what comes then", () => client.store.get("Node", "n8") !== undefined, PATIENCE_MS);
		await delay(100);
	});
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	t.setTimeout(0);
	if (process.argv[2] === "inside") await inside();
	else await clientTests(t as unknown as Test);
}
