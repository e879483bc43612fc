/**
 * The Kubernetes API as a source of the store.
 *
 *  1. the last good set comes first (last_good.ts): it is in force, and stale, until all objects have been read
 *     from the API
 *  2. a reflector for each kind lists and watches (reflector.ts), all over one connection (api_client.ts)
 *  3. the API servers' own addresses are learned, and tried when the present one is gone
 *
 * The API may be unreachable at the start and for any time: that never ends the agent, and an object is removed only
 * when the API reports it deleted.
 */
import { join } from "node:path";
import type { Source, SourceFacts, Store } from "../cluster/store.js";
import type { ReadAccess } from "./access.js";
import { ApiClient } from "./api_client.js";
import { type Clock, systemClock } from "./clock.js";
import { KubernetesReporter } from "./kubernetes_reporter.js";
import { LastGood, readLastGood } from "./last_good.js";
import { listDelay } from "./list_delay.js";
import { NoticeMirror } from "./notice_mirror.js";
import { KubernetesPods } from "./pod_source.js";
import { Reflector } from "./reflector.js";
import { policyDefinition, resourcesOf } from "./resources.js";
import { ServerMirror } from "./server_mirror.js";
import { StoreMirror } from "./store_mirror.js";

export interface KubernetesSourceOptions {
	access: ReadAccess;
	store: Store;
	nodeName: string;
	runDir: string;
	userAgent?: string;
	/** A file of the source cannot be written. */
	onError: (error: Error, file: string) => void;
	clock?: Clock;
}

/** In a roll-out, agents with a last good set spread their lists over time. */
const LIST_DELAY = { msPerNode: 2, most: 10_000 };

export class KubernetesSource implements Source {
	readonly client: ApiClient;
	readonly reporter: KubernetesReporter;
	readonly pods: KubernetesPods;
	readonly #store: Store;
	readonly #clock: Clock;
	readonly #reflectors: ReadonlyMap<string, Reflector>;
	/** Watches the definition of kinds that may be installed at any time. */
	readonly #definition: Reflector;
	readonly #lastGood: LastGood;

	/** Resolves when the last good set is in the store. Never rejects. */
	static async open(options: KubernetesSourceOptions): Promise<KubernetesSource> {
		const { store, runDir } = options;
		const file = join(runDir, "cluster.json");
		const { servers, records } = await readLastGood(file);
		store.update((writer) => {
			for (const [kind, key, record] of records) writer.put(kind, key, record);
		});
		return new KubernetesSource(options, file, servers);
	}

	private constructor(options: KubernetesSourceOptions, file: string, known: readonly string[]) {
		const { store, nodeName, access, userAgent, onError, clock = systemClock } = options;
		this.#store = store;
		this.#clock = clock;
		const onChange = () => this.#onChange();
		const client = new ApiClient({
			...{ access, clock, known, onChange },
			...(userAgent === undefined ? {} : { userAgent }),
		});
		this.client = client;
		this.reporter = new KubernetesReporter({ client, nodeName, clock, onChange });
		const reflectors = new Map<string, Reflector>();
		this.pods = new KubernetesPods({ client, store, nodeName, clock, onChange });
		for (const resource of resourcesOf(nodeName)) {
			const { kind } = resource;
			const all = kind === "Pod" ? this.pods.own : new StoreMirror(store, kind);
			const isSlices = kind === "EndpointSlice";
			const mirror = isSlices ? new ServerMirror(all, (servers) => client.learn(servers)) : all;
			reflectors.set(resource.kind, new Reflector({ client, resource, mirror, clock, onChange }));
		}
		this.#reflectors = reflectors;
		const installed = new NoticeMirror(() => reflectors.get("ClusterNetworkPolicy")?.wake());
		// Without permission for this watch, the kind is requested once a minute.
		this.#definition = new Reflector({
			...{ client, resource: policyDefinition, mirror: installed, clock },
			onChange: () => undefined,
		});
		this.#lastGood = new LastGood({
			...{ file, store, clock },
			servers: () => client.servers,
			onError: (error) => onError(error, file),
		});
		store.listen(() => this.#lastGood.notice());
		const delayMs = listDelay(clock, store, LIST_DELAY);
		for (const reflector of [...reflectors.values(), this.#definition]) reflector.start(delayMs);
	}

	facts(): SourceFacts[] {
		const now = this.#clock.now();
		const all = [...this.#reflectors].map(([kind, { facts }]) => ({ kind, facts }));
		const { facts: others } = this.pods;
		if (others !== undefined) all.push({ kind: "Pod elsewhere", facts: others });
		return all.map(({ kind, facts }) => {
			const { synced, live, absent, heardAt, reconnects } = facts;
			const ageSeconds = heardAt === undefined ? null : Math.round((now - heardAt) / 1000);
			return { kind, synced, stale: !live && !absent, absent, ageSeconds, reconnects };
		});
	}

	async close(): Promise<void> {
		this.client.close();
		await this.reporter.close();
		await this.pods.close();
		const all = [...this.#reflectors.values(), this.#definition];
		await Promise.all(all.map((reflector) => reflector.close()));
		await this.#lastGood.close();
	}

	#onChange(): void {
		const unreachable = this.client.problem;
		const all = [...this.#reflectors.values(), this.pods];
		const problems = all.flatMap(({ problem }) => problem ?? []);
		this.#lastGood.notice();
		this.#store.update((writer) => {
			const told = [...(unreachable === undefined ? [] : [unreachable]), ...problems];
			const rest = "; what is known of the cluster stays in force";
			const messages = [...new Set(told)].map((message) => `${message}${rest}`);
			messages.push(...this.reporter.problems);
			writer.report(
				"kubernetes",
				messages.map((message) => ({ message })),
			);
		});
	}
}
