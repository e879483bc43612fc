/**
 * Pods from the API: those of this Node always, the others while a policy needs them. Both are mirrored into the
 * same kind of the store, each with its own list and watch, so this Node's Pods do not wait for a list of a hundred
 * thousand.
 */
import type { PodSource, Store } from "../cluster/store.js";
import { readJson } from "./answers.js";
import type { ApiClient } from "./api_client.js";
import type { Clock, Timer } from "./clock.js";
import { listDelay } from "./list_delay.js";
import { Reflector } from "./reflector.js";
import type { ReflectorFacts } from "./reflector_state.js";
import { otherPods } from "./resources.js";
import { StoreMirror } from "./store_mirror.js";

export interface KubernetesPodsOptions {
	client: Pick<ApiClient, "send" | "avoid">;
	store: Store;
	nodeName: string;
	clock: Clock;
	onChange: () => void;
}

/** Pods of other Nodes are kept this long after their last use, since a removed policy may come back. */
const LINGER_MS = 300_000;
const FETCH_MS = 5000;
/** One policy can make all agents list all Pods at the same moment. */
const LIST_DELAY = { msPerNode: 1, most: 5000 };

export class KubernetesPods implements PodSource {
	/** The mirror of this Node's Pods. */
	readonly own: StoreMirror<"Pod">;
	readonly #options: KubernetesPodsOptions;
	readonly #others: StoreMirror<"Pod">;
	#reflector: Reflector | undefined;
	#linger: Timer | undefined;
	#closing: Promise<void> = Promise.resolve();
	readonly #ended = new AbortController();
	readonly #listeners = new Set<() => void>();

	constructor(options: KubernetesPodsOptions) {
		this.#options = options;
		const { store, nodeName } = options;
		this.own = new StoreMirror(store, "Pod", {
			name: "here",
			has: ({ node }) => node === nodeName,
		});
		this.#others = new StoreMirror(store, "Pod", {
			name: "elsewhere",
			has: ({ node }) => node !== nodeName,
			isSynced: false,
		});
	}

	wantOthers(wanted: boolean): void {
		const { clock } = this.#options;
		if (this.#ended.signal.aborted) return;
		if (!wanted) {
			if (this.#reflector !== undefined)
				this.#linger ??= clock.after(LINGER_MS, () => this.#forget());
			return;
		}
		this.#linger?.cancel();
		this.#linger = undefined;
		if (this.#reflector !== undefined) return;
		const { client, nodeName, store } = this.#options;
		const onChange = () => {
			this.#options.onChange();
			for (const listener of this.#listeners) listener();
		};
		const [resource, mirror] = [otherPods(nodeName), this.#others];
		const reflector = new Reflector({ client, resource, mirror, clock, onChange });
		this.#reflector = reflector;
		// The former watch may still be removing its Pods.
		void this.#closing.then(() => reflector.start(listDelay(clock, store, LIST_DELAY)));
	}

	get hasOthers(): boolean {
		return this.#reflector?.facts.synced === true;
	}

	listen(listener: () => void): void {
		this.#listeners.add(listener);
	}

	/** The state of the watch for the other Pods; undefined: there is no watch. */
	get facts(): ReflectorFacts | undefined {
		return this.#reflector?.facts;
	}

	/** Why the other Pods are not known; undefined: they are known or not needed. */
	get problem(): string | undefined {
		return this.#reflector?.problem;
	}

	async fetch(namespace: string, name: string): Promise<void> {
		const { client, clock, nodeName } = this.#options;
		const timeout = new AbortController();
		const timer = clock.after(FETCH_MS, () => timeout.abort());
		try {
			const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
			const signal = AbortSignal.any([this.#ended.signal, timeout.signal]);
			const answer = await client.send({ path, signal });
			if (answer.status !== 200) {
				answer.cancel();
				return;
			}
			const pod = (await readJson(answer)) as { spec?: { nodeName?: unknown } } | null;
			if (pod?.spec?.nodeName === nodeName) this.own.change(pod);
		} catch {
			// The watch will report the Pod, or it stays unknown.
		} finally {
			timer.cancel();
		}
	}

	async close(): Promise<void> {
		this.#ended.abort(new Error("the agent is stopping"));
		this.#linger?.cancel();
		await this.#closing;
		await this.#reflector?.close();
	}

	#forget(): void {
		const reflector = this.#reflector;
		this.#linger = undefined;
		this.#reflector = undefined;
		if (reflector === undefined) return;
		this.#closing = reflector.close().then(() => this.#others.clear());
	}
}
