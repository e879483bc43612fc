/** A Kubernetes source, the API server that it reads, and a clock that a test moves: everything in one process. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Test } from "tap";
import type { Kind } from "../../../src/cluster/store.js";
import { Store } from "../../../src/cluster/store.js";
import type { Access } from "../../../src/kube/access.js";
import { KubernetesSource } from "../../../src/kube/kubernetes_source.js";
import { type ApiObject, FakeCluster } from "./cluster.js";
import type { Relay } from "./relay.js";
import { FakeServer } from "./server.js";
import { TestClock } from "./test_clock.js";

export class Site {
	readonly clock = new TestClock();
	readonly cluster: FakeCluster;
	readonly runDir: string;
	readonly errors: Error[] = [];
	/** As read when the client reads it. */
	access: Access | Error = new Error("no access yet");
	store = new Store();
	source: KubernetesSource | undefined;
	readonly #test: Test;

	constructor(t: Test, cluster = new FakeCluster()) {
		this.#test = t;
		this.cluster = cluster;
		this.runDir = mkdtempSync(join(tmpdir(), "fairway-kube-"));
		t.teardown(async () => {
			await this.stop();
			rmSync(this.runDir, { recursive: true });
		});
	}

	async server(options: ConstructorParameters<typeof FakeServer>[1] = {}): Promise<FakeServer> {
		const server = await new FakeServer(this.cluster, options).start();
		this.#test.teardown(() => server.stop());
		return server;
	}

	/** Access to these, all with the authority of the first. */
	reach(server: FakeServer, ...others: (FakeServer | Relay)[]): void {
		const servers = [server, ...others].map(({ url }) => new URL(url));
		this.access = { servers, ca: server.authority.certificate };
	}

	async start(): Promise<void> {
		this.store = new Store();
		this.source = await KubernetesSource.open({
			access: async () => {
				if (this.access instanceof Error) throw this.access;
				return this.access;
			},
			...{ store: this.store, nodeName: "n1", runDir: this.runDir, clock: this.clock },
			onError: (error) => this.errors.push(error),
		});
	}

	async stop(): Promise<void> {
		await this.source?.close();
		this.source = undefined;
	}

	keys(kind: Kind): string {
		return [...this.store.keys(kind)].sort().join(" ");
	}

	get problems(): string[] {
		return this.store.problems().map(({ message }) => message);
	}

	facts(kind: string) {
		return this.source!.facts().find((facts) => facts.kind === kind)!;
	}

	get synced(): boolean {
		return ["Node", "Service", "ServiceCIDR", "Pod", "EndpointSlice", "NetworkPolicy"].every(
			(kind) => this.store.isSynced(kind as Kind),
		);
	}

	/** All kinds are watched. */
	get live(): boolean {
		return this.source!.facts().every(({ stale }) => !stale);
	}

	/**
	 * Waits for it while time passes: a tenth of a second at each look. Everything that is awaited happens in
	 * this process, so that time never passes while it has no turn.
	 */
	async until(what: string, condition: () => boolean, stepMs = 100): Promise<void> {
		for (let look = 0; look < 4000; look++) {
			if (condition()) return;
			await delay(1);
			await this.clock.advance(stepMs);
		}
		throw new Error(
			`Waited without success for: ${what}; Nodes: ${this.keys("Node")}; problems: ${this.problems.join("; ")}`,
		);
	}
}

export function node(name: string, number: number, extra: Partial<ApiObject> = {}): ApiObject {
	const { metadata, ...rest } = extra;
	return {
		metadata: { name, ...metadata },
		spec: { podCIDRs: [`10.244.${number}.0/24`] },
		status: { addresses: [{ type: "InternalIP", address: `192.168.1.${number}` }] },
		...rest,
	};
}

export function pod(namespace: string, name: string, nodeName: string): ApiObject {
	return { metadata: { namespace, name }, spec: { nodeName, containers: [] } };
}
