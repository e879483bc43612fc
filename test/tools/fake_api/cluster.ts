/**
 * What API servers serve: objects by kind, versions, and the events between them, as etcd has them. Several
 * servers may share one.
 */

export interface ApiObject {
	apiVersion?: string;
	kind?: string;
	metadata: {
		name: string;
		namespace?: string;
		uid?: string;
		resourceVersion?: string;
		[field: string]: unknown;
	};
	[field: string]: unknown;
}

export interface ClusterEvent {
	version: number;
	plural: string;
	type: "ADDED" | "MODIFIED" | "DELETED";
	object: ApiObject;
}

/** Plural → kind and API group. */
export const SERVED: Readonly<Record<string, { kind: string; root: string; otherRoot?: string }>> =
	{
		nodes: { kind: "Node", root: "/api/v1" },
		pods: { kind: "Pod", root: "/api/v1" },
		services: { kind: "Service", root: "/api/v1" },
		endpoints: { kind: "Endpoints", root: "/api/v1" },
		servicecidrs: { kind: "ServiceCIDR", root: "/apis/networking.k8s.io/v1" },
		namespaces: { kind: "Namespace", root: "/api/v1" },
		networkpolicies: { kind: "NetworkPolicy", root: "/apis/networking.k8s.io/v1" },
		clusternetworkpolicies: {
			kind: "ClusterNetworkPolicy",
			root: "/apis/policy.networking.k8s.io/v1beta1",
			otherRoot: "/apis/policy.networking.k8s.io/v1alpha2",
		},
		endpointslices: { kind: "EndpointSlice", root: "/apis/discovery.k8s.io/v1" },
		customresourcedefinitions: {
			kind: "CustomResourceDefinition",
			root: "/apis/apiextensions.k8s.io/v1",
		},
		events: { kind: "Event", root: "/apis/events.k8s.io/v1" },
	};

export class FakeCluster {
	version = 100;
	/** Events up to here are forgotten. */
	compacted = 0;
	events: ClusterEvent[] = [];
	readonly #objects = new Map<string, Map<string, ApiObject>>();
	readonly #listeners = new Set<() => void>();
	#uids = 0;

	/** Adds it, or changes the one of that name. */
	put(plural: string, object: ApiObject): ApiObject {
		const objects = this.#of(plural);
		const key = keyOf(object);
		const before = objects.get(key);
		const uid = object.metadata.uid ?? before?.metadata.uid ?? `uid-${++this.#uids}`;
		const version = ++this.version;
		const { kind, root } = SERVED[plural]!;
		const apiVersion = root.replace(/^\/apis?\//, "");
		const metadata = { ...object.metadata, uid, resourceVersion: String(version) };
		const whole = { apiVersion, kind, ...object, metadata };
		objects.set(key, whole);
		const type = before === undefined ? "ADDED" : "MODIFIED";
		this.#tell({ version, plural, type, object: whole });
		return whole;
	}

	/** @param key name, or namespace/name */
	remove(plural: string, key: string): void {
		const object = this.#of(plural).get(key);
		if (object === undefined) throw new Error(`Cannot remove ${plural} ${key}: there is none`);
		this.#of(plural).delete(key);
		const version = ++this.version;
		const metadata = { ...object.metadata, resourceVersion: String(version) };
		this.#tell({ version, plural, type: "DELETED", object: { ...object, metadata } });
	}

	/** Forgets all events: versions before now are too old. */
	compact(): void {
		this.events = [];
		this.compacted = this.version;
	}

	/** As it was at an earlier version; the versions after it are given again. */
	restore(copy: FakeCluster): void {
		this.#objects.clear();
		for (const [plural, objects] of copy.#objects) this.#objects.set(plural, new Map(objects));
		this.version = copy.version;
		this.events = copy.events.slice();
		this.compacted = copy.compacted;
	}

	copy(): FakeCluster {
		const copy = new FakeCluster();
		copy.restore(this);
		copy.#uids = this.#uids + 1000;
		return copy;
	}

	list(plural: string): ApiObject[] {
		return [...this.#of(plural).values()];
	}

	get(plural: string, key: string): ApiObject | undefined {
		return this.#of(plural).get(key);
	}

	/** @returns a function that ends it */
	listen(listener: () => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	#of(plural: string): Map<string, ApiObject> {
		let objects = this.#objects.get(plural);
		if (objects === undefined) {
			objects = new Map();
			this.#objects.set(plural, objects);
		}
		return objects;
	}

	#tell(event: ClusterEvent): void {
		this.events.push(event);
		for (const listener of this.#listeners) listener();
	}
}

function keyOf({ metadata: { name, namespace } }: ApiObject): string {
	return namespace === undefined ? name : `${namespace}/${name}`;
}
