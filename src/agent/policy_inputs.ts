/**
 * What network policy is made of, and what of it has changed since a turn of policies.ts took it: objects by key, and
 * the local Pods.
 */
import type { PodSource, Store, StoreReader } from "../cluster/store.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { PolicyInput, PolicyKind } from "../policy/compiler.js";
import type { LocalEndpoint } from "../policy/subjects.js";
import { asksForPods } from "./policy_needs.js";

export interface PolicyInputsOptions {
	nodeName: string;
	store: Store;
	/** Undefined: all Pods are in the store. */
	pods: PodSource | undefined;
	endpoints: () => readonly Endpoint[];
}

const KINDS: readonly PolicyKind[] = [
	"Node",
	"Namespace",
	"Pod",
	"NetworkPolicy",
	"ClusterNetworkPolicy",
];

export class PolicyInputs {
	readonly #options: PolicyInputsOptions;
	readonly #readers: ReadonlyMap<PolicyKind, StoreReader>;
	/** Keys that no update has taken yet. */
	#changed = new Map<PolicyKind, Set<string>>();
	/** All kinds were seen once. */
	#isSynced = false;
	/** Whether policies depend on Pods of other Nodes, with local Pods in these namespaces. */
	#asks: { of: string; forPods: boolean } | undefined;
	/** Of the last turn. */
	#endpoints: readonly Endpoint[] = [];

	constructor(options: PolicyInputsOptions) {
		this.#options = options;
		this.#readers = new Map(KINDS.map((kind) => [kind, options.store.reader(kind)]));
	}

	/** All kinds were seen once. */
	get isSynced(): boolean {
		return this.#isSynced;
	}

	/** Takes from the store what has changed. @param isBegun false: a compiler that begins looks at everything */
	note(isBegun: boolean): void {
		for (const [kind, reader] of this.#readers) {
			const taken = reader.take();
			if (taken.size === 0) continue;
			if (!isBegun) taken.clear();
			const known = this.#changed.get(kind);
			if (known === undefined) this.#changed.set(kind, taken);
			else for (const key of taken) known.add(key);
		}
	}

	/** Some key waits to be taken. */
	get hasChanged(): boolean {
		return this.#changed.size > 0;
	}

	/** @param keys "namespace/name" */
	hasChangedPods(keys: Iterable<string>): boolean {
		const pods = this.#changed.get("Pod");
		if (pods !== undefined) for (const key of keys) if (pods.has(key)) return true;
		return false;
	}

	/** Keys that have changed. @param isAnew all that there are */
	take(isAnew: boolean): PolicyInput["changed"] {
		const changed = isAnew ? this.#everything() : Object.fromEntries(this.#changed);
		this.#changed = new Map();
		return changed;
	}

	/** Keys that are made when they are looked at: there may be a hundred thousand. */
	#everything(): PolicyInput["changed"] {
		const { store } = this.#options;
		return Object.fromEntries(
			KINDS.map((kind) => [kind, { has: () => true, [Symbol.iterator]: () => store.keys(kind) }]),
		);
	}

	/** The next are all new. */
	forgetEndpoints(): void {
		this.#endpoints = [];
	}

	/** Everything that policies are made of is known. */
	hasAll(): boolean {
		const { store, pods, endpoints } = this.#options;
		this.#isSynced ||= KINDS.every((kind) => store.isSynced(kind));
		if (!this.#isSynced) return false;
		if (pods === undefined) return true;
		const namespaces = new Set(endpoints().map(({ namespace }) => namespace));
		const isChanged =
			this.#changed.has("NetworkPolicy") || this.#changed.has("ClusterNetworkPolicy");
		const of = [...namespaces].sort().join();
		if (isChanged || this.#asks?.of !== of)
			this.#asks = { of, forPods: asksForPods(store, namespaces) };
		const { forPods } = this.#asks;
		pods.wantOthers(forPods);
		return !forPods || pods.hasOthers;
	}

	/** The local Pods, if they are not those of the last turn. */
	changedEndpoints(): readonly LocalEndpoint[] | undefined {
		const now = this.#options.endpoints();
		const before = this.#endpoints;
		const isSame = now.length === before.length && now.every((one, i) => one === before[i]);
		// One without a name may have become known by its address.
		if (isSame && now.every(({ name }) => name !== undefined)) return undefined;
		this.#endpoints = [...now];
		return now.map((endpoint) => this.#localEndpoint(endpoint));
	}

	/** An endpoint whose record was lost, and restored from the kernel, belongs to the Pod that has its address. */
	#localEndpoint(endpoint: Endpoint): LocalEndpoint {
		const { store, nodeName } = this.#options;
		if (endpoint.name !== undefined) return localEndpoint(endpoint);
		for (const key of store.keys("Pod")) {
			const pod = store.get("Pod", key);
			if (pod === undefined || pod.node !== nodeName || pod.hostNetwork || pod.ended) continue;
			if (!pod.addresses.some((address) => endpoint.addresses.includes(address))) continue;
			const { namespace, name, uid } = pod;
			return localEndpoint({ ...endpoint, namespace, name, ...(uid && { uid }) });
		}
		return localEndpoint(endpoint);
	}

	/** What ADD of a Pod waits for, as a sentence. */
	missing(): string {
		const { store, pods } = this.#options;
		const kinds = KINDS.filter((kind) => !store.isSynced(kind));
		if (kinds.length > 0)
			return `Not yet read from the cluster: ${kinds.join(", ")}. \`fairway status\` names what cannot be read.`;
		if (pods !== undefined && !this.hasAll()) return "The Pods of other Nodes are not read yet.";
		return "The Pod is not known, or is another one than the runtime's.";
	}
}

function localEndpoint(endpoint: Endpoint): LocalEndpoint {
	const { hostInterface, namespace = "", name = "", uid, addresses } = endpoint;
	return {
		...{ id: hostInterface, namespace, name, addresses },
		...(uid === undefined ? {} : { uid }),
	};
}
