/**
 * Stands in for Kubernetes' EndpointSlice controller where the cluster is read from a directory: a
 * Service with a selector, and without any slice of its own, gets its endpoints from the Pods of the
 * directory.
 *
 *  1. the store, or the CNI server, says what has changed
 *  2. which Services may have other endpoints now: by selector, by the Pods that they have, by Node
 *  3. their slices are made anew and written to the store
 *
 * A changed Pod costs what its labels say, however many Services there are.
 */
import type { EndpointSliceObject } from "./endpoint_slice_object.js";
import { type Labels, labelOf } from "./labels.js";
import type { PodObject } from "./pod_object.js";
import type { ServiceObject } from "./service_object.js";
import { type SelectedPod, slicesOfPods } from "./slices_of_pods.js";
import type { Store, StoreReader } from "./store.js";

const ZONE_LABEL = "topology.kubernetes.io/zone";

/** What the CNI server knows of a Pod of this Node. */
export interface LocalPod {
	namespace?: string;
	name?: string;
	addresses: readonly string[];
}

interface Selecting {
	service: ServiceObject;
	/** The Pods that it selects. */
	pods: Set<string>;
}

export class EndpointController {
	readonly #store: Store;
	readonly #nodeName: string;
	readonly #readers: Readonly<Record<"Node" | "Pod" | "Service" | "EndpointSlice", StoreReader>>;
	/** Services with a selector. */
	readonly #services = new Map<string, Selecting>();
	/** The first pair of a selector, in its namespace → Services. */
	readonly #byLabel = new Map<string, Set<string>>();
	readonly #podsOf = new Map<string, Set<string>>();
	/** Pod → the Services that select it. */
	readonly #servicesOf = new Map<string, Set<string>>();
	/** Node → its Pods that are selected. */
	readonly #podsAt = new Map<string, Set<string>>();
	readonly #nodeOf = new Map<string, string>();
	/** Slices that are not made here → their Services, and how many each of these has. */
	readonly #foreign = new Map<string, string>();
	readonly #foreignCount = new Map<string, number>();
	/** Service → keys of the slices that were made for it. */
	readonly #made = new Map<string, readonly string[]>();
	/** This Node's Pods, by key → addresses. */
	#local: ReadonlyMap<string, readonly string[]> = new Map();
	readonly #dirty = new Set<string>();

	constructor(store: Store, nodeName: string) {
		this.#store = store;
		this.#nodeName = nodeName;
		this.#readers = {
			Node: store.reader("Node"),
			Pod: store.reader("Pod"),
			Service: store.reader("Service"),
			EndpointSlice: store.reader("EndpointSlice"),
		};
		store.listen(() => this.#update());
		this.#update();
	}

	/** All Pods that CNI has attached here. A Pod that it knows has CNI's addresses. */
	setLocalPods(pods: readonly LocalPod[]): void {
		const before = this.#local;
		const now = new Map<string, readonly string[]>();
		for (const { namespace, name, addresses } of pods)
			if (namespace !== undefined && name !== undefined) now.set(`${namespace}/${name}`, addresses);
		this.#local = now;
		for (const key of new Set([...before.keys(), ...now.keys()]))
			if (before.get(key)?.join() !== now.get(key)?.join()) this.#markPod(key);
		this.#write();
	}

	#update(): void {
		for (const key of this.#readers.EndpointSlice.take()) this.#noteSlice(key);
		for (const key of this.#readers.Service.take()) this.#noteService(key);
		for (const key of this.#readers.Pod.take()) this.#notePod(key);
		for (const node of this.#readers.Node.take()) {
			for (const pod of this.#podsAt.get(node) ?? []) this.#markPod(pod);
			if (node === this.#nodeName) for (const pod of this.#local.keys()) this.#markPod(pod);
		}
		this.#write();
	}

	// ------------------------------------------------------------ 2. which Services

	#noteSlice(key: string): void {
		// Not a name of the cluster's: it was made here.
		if (key.includes("#")) return;
		const slice = this.#store.get("EndpointSlice", key);
		const was = this.#foreign.get(key);
		const is =
			slice === undefined || slice.service === ""
				? undefined
				: `${slice.namespace}/${slice.service}`;
		if (was === is) return;
		for (const [service, change] of [
			[was, -1],
			[is, 1],
		] as const) {
			if (service === undefined) continue;
			const count = (this.#foreignCount.get(service) ?? 0) + change;
			if (count === 0) this.#foreignCount.delete(service);
			else this.#foreignCount.set(service, count);
			this.#dirty.add(service);
		}
		if (is === undefined) this.#foreign.delete(key);
		else this.#foreign.set(key, is);
	}

	#noteService(key: string): void {
		const before = this.#services.get(key);
		const service = this.#store.get("Service", key);
		const isSelecting = service !== undefined && service.selector.length > 0;
		this.#dirty.add(key);
		if (before !== undefined) {
			if (isSelecting && before.service.selector.join("\0") === service.selector.join("\0")) {
				before.service = service;
				return;
			}
			remove(this.#byLabel, indexOf(before.service.namespace, before.service.selector), key);
			for (const pod of before.pods) remove(this.#servicesOf, pod, key);
			this.#services.delete(key);
		}
		if (!isSelecting) return;
		const { namespace, selector } = service;
		const pods = new Set<string>();
		this.#services.set(key, { service, pods });
		add(this.#byLabel, indexOf(namespace, selector), key);
		for (const pod of this.#podsOf.get(namespace) ?? [])
			if (matches(selector, this.#store.get("Pod", pod)?.labels ?? [])) {
				pods.add(pod);
				add(this.#servicesOf, pod, key);
			}
	}

	#notePod(key: string): void {
		this.#markPod(key);
		for (const service of this.#servicesOf.get(key) ?? [])
			this.#services.get(service)?.pods.delete(key);
		this.#servicesOf.delete(key);
		const pod = this.#store.get("Pod", key);
		const namespace = key.slice(0, key.indexOf("/"));
		this.#noteNode(key, pod);
		if (pod === undefined) {
			remove(this.#podsOf, namespace, key);
			return;
		}
		add(this.#podsOf, namespace, key);
		for (let at = 0; at < pod.labels.length; at += 2) {
			const pair = indexOf(namespace, pod.labels.slice(at, at + 2));
			for (const name of this.#byLabel.get(pair) ?? []) {
				const selecting = this.#services.get(name);
				if (selecting === undefined || !matches(selecting.service.selector, pod.labels)) continue;
				selecting.pods.add(key);
				add(this.#servicesOf, key, name);
			}
		}
		this.#markPod(key);
	}

	#noteNode(key: string, pod: PodObject | undefined): void {
		const before = this.#nodeOf.get(key);
		const now = pod?.node;
		if (before === now) return;
		if (before !== undefined) remove(this.#podsAt, before, key);
		if (now === undefined) this.#nodeOf.delete(key);
		else {
			this.#nodeOf.set(key, now);
			add(this.#podsAt, now, key);
		}
	}

	#markPod(key: string): void {
		for (const service of this.#servicesOf.get(key) ?? []) this.#dirty.add(service);
	}

	// ------------------------------------------------------------ 3. their slices

	#write(): void {
		if (this.#dirty.size === 0) return;
		const dirty = [...this.#dirty];
		this.#dirty.clear();
		this.#store.update((writer) => {
			for (const key of dirty) {
				const before = this.#made.get(key) ?? [];
				const slices = this.#slicesOf(key);
				const now = slices.map(({ namespace, name }) => `${namespace}/${name}`);
				for (const [i, slice] of slices.entries()) writer.put("EndpointSlice", now[i]!, slice);
				for (const gone of before) if (!now.includes(gone)) writer.remove("EndpointSlice", gone);
				if (now.length === 0) this.#made.delete(key);
				else this.#made.set(key, now);
			}
		});
	}

	#slicesOf(key: string): EndpointSliceObject[] {
		const selecting = this.#services.get(key);
		if (selecting === undefined || this.#foreignCount.has(key)) return [];
		const { service, pods } = selecting;
		return slicesOfPods(
			service,
			[...pods].sort().flatMap((pod) => this.#selected(pod)),
		);
	}

	#selected(key: string): SelectedPod[] {
		const pod = this.#store.get("Pod", key);
		if (pod === undefined) return [];
		const attached = this.#local.get(key);
		const node = attached === undefined ? pod.node : this.#nodeName;
		const on = this.#store.get("Node", node);
		const zone = labelOf(on?.labels ?? [], ZONE_LABEL) ?? "";
		const own = attached ?? pod.addresses;
		const addresses = own.length === 0 && pod.hostNetwork ? (on?.internalIPs ?? []) : own;
		return [{ key, pod, addresses, node, zone }];
	}
}

/** Every pair of the selector is among the labels. */
function matches(selector: Labels, labels: Labels): boolean {
	for (let at = 0; at < selector.length; at += 2)
		if (labelOf(labels, selector[at]!) !== selector[at + 1]) return false;
	return true;
}

/** Index key of a selector's first pair. */
function indexOf(namespace: string, [key, value]: Labels): string {
	return `${namespace}\0${key}\0${value}`;
}

function add(sets: Map<string, Set<string>>, key: string, value: string): void {
	const set = sets.get(key);
	if (set === undefined) sets.set(key, new Set([value]));
	else set.add(value);
}

function remove(sets: Map<string, Set<string>>, key: string, value: string): void {
	const set = sets.get(key);
	set?.delete(value);
	if (set?.size === 0) sets.delete(key);
}
