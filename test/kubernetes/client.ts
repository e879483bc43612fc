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
import { cpSync, mkdtempSync, rmSync } from "node:fs";
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
import { ApiAlone, ApiUser } from "./api_alone.js";

const PATIENCE_MS = 60_000;

/** Runs this file in namespaces of its own, which end with it. */
export function clientTests(parent: Test): Promise<unknown> {
	const self = fileURLToPath(import.meta.url);
	const own = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
	const command = [process.execPath, "--import=tsx", self, "inside"];
	return parent.spawn("unshare", [...own, ...command], "client") as Promise<unknown>;
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
	const plane = new ApiAlone("127.0.0.1");
	t.teardown(() => plane.close());
	plane.startEtcd();
	await plane.startServer(6443);
	await plane.startServer(6444);
	const user = new ApiUser(plane.access(6444, 6443));
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
