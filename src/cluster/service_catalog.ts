/**
 * Services with their EndpointSlices: joined by namespace and the slices' label
 * `kubernetes.io/service-name`.
 *
 *  1. the store says which Services and slices have changed
 *  2. each of them costs the same whatever there is besides: a slice knows its Service, a Service
 *     its slices
 *  3. the keys of the Services that have changed, or whose slices have, are kept until they are taken
 *
 * Slices may come before their Service and stay after it: they wait.
 */
import type { EndpointSliceObject } from "./endpoint_slice_object.js";
import type { ServiceObject } from "./service_object.js";
import type { Problem } from "./snapshot.js";
import type { Store, StoreReader } from "./store.js";

export interface ServiceEntry {
	service: ServiceObject;
	/** By name; of both families. */
	slices: readonly EndpointSliceObject[];
}

export interface ServiceCatalogReader {
	/** "namespace/name", in no order. */
	keys(): Iterable<string>;
	/** Another object after every change of it; undefined: there is no such Service. */
	get(key: string): ServiceEntry | undefined;
	/** All Services and all slices have been seen: what is not here does not exist. */
	readonly isSynced: boolean;
}

/** The catalog of a cluster without Services. */
export const NO_SERVICES: ServiceCatalogReader = {
	keys: () => [],
	get: () => undefined,
	isSynced: true,
};

/** More are counted. */
const PROBLEMS_MAX = 20;
const NO_SLICES: readonly EndpointSliceObject[] = Object.freeze([]);

export class ServiceCatalog implements ServiceCatalogReader {
	readonly #store: Store;
	readonly #services: StoreReader;
	readonly #slices: StoreReader;
	readonly #entries = new Map<string, ServiceEntry>();
	/** Slices whose Service is not there. */
	readonly #waiting = new Map<string, readonly EndpointSliceObject[]>();
	/** Slice → its Service. */
	readonly #serviceOf = new Map<string, string>();
	/** Slices that name no Service. */
	readonly #nameless = new Set<string>();
	#changed = new Set<string>();

	constructor(store: Store) {
		this.#store = store;
		this.#services = store.reader("Service");
		this.#slices = store.reader("EndpointSlice");
	}

	get isSynced(): boolean {
		return this.#store.isSynced("Service") && this.#store.isSynced("EndpointSlice");
	}

	keys(): IterableIterator<string> {
		return this.#entries.keys();
	}

	get(key: string): ServiceEntry | undefined {
		return this.#entries.get(key);
	}

	/** As the store is now. */
	update(): void {
		for (const key of this.#services.take()) this.#setService(key);
		for (const key of this.#slices.take()) this.#setSlice(key);
	}

	/** Services that have come, gone or changed, or whose slices have, since the last call. */
	takeChanged(): ReadonlySet<string> {
		const changed = this.#changed;
		this.#changed = new Set();
		return changed;
	}

	/**
	 * Slices of a manifest directory that no Service uses. (From the API they are normal: for a moment when a Service is
	 * deleted, and always for headless Services.)
	 */
	problems(): Problem[] {
		if (!this.isSynced) return [];
		const found: [key: string, problem: Problem][] = [];
		const add = (key: string, why: string) => {
			const file = this.#store.fileOf("EndpointSlice", key);
			if (file !== undefined)
				found.push([key, { file, message: `Cannot use EndpointSlice ${key}: expected ${why}` }]);
		};
		for (const key of this.#nameless)
			add(key, "its Service in the label kubernetes.io/service-name, got none");
		for (const [service, slices] of this.#waiting)
			for (const { namespace, name } of slices)
				add(`${namespace}/${name}`, `the Service ${service} that it is labelled with, got none`);
		found.sort(([a], [b]) => (a < b ? -1 : 1));
		const problems = found.map(([, problem]) => problem);
		const more = problems.length - PROBLEMS_MAX;
		if (more <= 0) return problems;
		const message = `Cannot use more EndpointSlices than those: expected a Service for each, got ${more} others without`;
		return [...problems.slice(0, PROBLEMS_MAX), { message }];
	}

	#setService(key: string): void {
		const service = this.#store.get("Service", key);
		const before = this.#entries.get(key);
		if (service === before?.service) return;
		this.#changed.add(key);
		const slices = before?.slices ?? this.#waiting.get(key) ?? NO_SLICES;
		this.#waiting.delete(key);
		if (service !== undefined) {
			this.#entries.set(key, { service, slices });
			return;
		}
		this.#entries.delete(key);
		if (slices.length > 0) this.#waiting.set(key, slices);
	}

	#setSlice(key: string): void {
		const slice = this.#store.get("EndpointSlice", key);
		const is = slice === undefined || slice.service === "" ? undefined : serviceKey(slice);
		if (slice?.service === "") this.#nameless.add(key);
		else this.#nameless.delete(key);
		const was = this.#serviceOf.get(key);
		const name = key.slice(key.indexOf("/") + 1);
		if (was !== undefined && was !== is) this.#replace(was, name, undefined);
		if (is === undefined) this.#serviceOf.delete(key);
		else {
			if (was !== is) this.#serviceOf.set(key, is);
			this.#replace(is, name, slice);
		}
	}

	#replace(key: string, name: string, slice: EndpointSliceObject | undefined): void {
		const entry = this.#entries.get(key);
		const before = entry?.slices ?? this.#waiting.get(key) ?? NO_SLICES;
		const at = before.findIndex((other) => other.name >= name);
		const from = at < 0 ? before.length : at;
		const old = before[from]?.name === name ? before[from] : undefined;
		if (old === slice) return;
		const slices = before.toSpliced(
			from,
			old === undefined ? 0 : 1,
			...(slice === undefined ? [] : [slice]),
		);
		if (entry !== undefined) {
			this.#entries.set(key, { service: entry.service, slices });
			this.#changed.add(key);
		} else if (slices.length > 0) this.#waiting.set(key, slices);
		else this.#waiting.delete(key);
	}
}

function serviceKey({ namespace, service }: EndpointSliceObject): string {
	return [namespace, service].join("/");
}
