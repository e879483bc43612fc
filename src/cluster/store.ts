/**
 * The known state of the cluster: plain records by kind and key. Sources of any sort write it; readers learn which
 * keys have changed since their last call, and do not depend on the source.
 *
 * Records are replaced, never changed. `synced` means that the source has listed all records of the kind: until then
 * a missing record may still exist, so nothing that an earlier agent left is removed for its absence.
 */
import { isDeepStrictEqual } from "node:util";
import type { ClusterPolicyObject } from "./cluster_policy_object.js";
import type { EndpointSliceObject } from "./endpoint_slice_object.js";
import type { NamespaceObject } from "./namespace_object.js";
import type { NetworkPolicyObject } from "./network_policy_object.js";
import type { PodObject } from "./pod_object.js";
import { PodTable } from "./pod_table.js";
import { ObjectTable, PackedTable, type RecordTable } from "./record_table.js";
import type { Reporter } from "./reporter.js";
import type { ServiceCidrObject } from "./service_cidr_object.js";
import type { ServiceObject } from "./service_object.js";
import type { NodeObject, Problem } from "./snapshot.js";

/** Kinds and their records. The key is the name, or `namespace/name`. */
export interface Records {
	Node: NodeObject;
	Pod: PodObject;
	Service: ServiceObject;
	ServiceCIDR: ServiceCidrObject;
	EndpointSlice: EndpointSliceObject;
	Namespace: NamespaceObject;
	NetworkPolicy: NetworkPolicyObject;
	ClusterNetworkPolicy: ClusterPolicyObject;
}
export type Kind = keyof Records;

/** An empty table for a kind. */
export function recordTable<K extends Kind>(kind: K): RecordTable<Records[K]> {
	const table =
		kind === "Pod"
			? new PodTable()
			: kind === "NetworkPolicy"
				? new PackedTable<NetworkPolicyObject>()
				: new ObjectTable<Records[K]>();
	return table as unknown as RecordTable<Records[K]>;
}

/** Writes of one `update`. */
export interface StoreWriter {
	/** An equal record changes nothing. */
	put<K extends Kind>(kind: K, key: string, record: Records[K], file?: string): void;
	remove(kind: Kind, key: string): void;
	setSynced(kind: Kind, synced: boolean): void;
	/** All current problems of this source, in a stable order. */
	report(source: string, problems: readonly Problem[]): void;
}

/** Keys that changed since the last `take`; at first all there are. The set is the caller's. */
export interface StoreReader {
	take(): Set<string>;
}

/** Whether the records of a kind are complete and current. */
export interface SourceFacts {
	kind: string;
	/** All of them have been seen since the start. */
	synced: boolean;
	/** The last known records are in force; the source cannot be read now. */
	stale: boolean;
	/** The source does not have this kind, so there are no records. */
	absent: boolean;
	/** Seconds since the source was last heard; null: not yet. */
	ageSeconds: number | null;
	/** How often the source was lost and found again. */
	reconnects: number;
	/** Why not all of them have been seen: "bad.yaml cannot be used". */
	missing?: string;
}

/** A source that watches other Nodes' Pods only on demand, since there are many. */
export interface PodSource {
	wantOthers(wanted: boolean): void;
	/** All of the other Nodes' Pods are in the store. */
	readonly hasOthers: boolean;
	/** Called when `hasOthers` may have changed. */
	listen(listener: () => void): void;
	/** Asks for one Pod, which is then in the store if it exists. Never rejects. */
	fetch(namespace: string, name: string): Promise<void>;
}

/** Something that writes to a store for as long as it is open. */
export interface Source {
	/** State of each kind that it writes. */
	facts(): SourceFacts[];
	/** Absent: the source takes no reports. */
	readonly reporter?: Reporter;
	/** Absent: it always lists all Pods. */
	readonly pods?: PodSource;
	/** Reads everything again, without waiting for an event. Absent: it always hears of changes. */
	resync?(): Promise<void>;
	close(): Promise<void>;
}

export class Store {
	readonly #records: { [K in Kind]: RecordTable<Records[K]> } = {
		Node: recordTable("Node"),
		Pod: recordTable("Pod"),
		Service: recordTable("Service"),
		ServiceCIDR: recordTable("ServiceCIDR"),
		EndpointSlice: recordTable("EndpointSlice"),
		Namespace: recordTable("Namespace"),
		NetworkPolicy: recordTable("NetworkPolicy"),
		ClusterNetworkPolicy: recordTable("ClusterNetworkPolicy"),
	};
	readonly #readers: { [K in Kind]: Set<Set<string>> } = {
		Node: new Set(),
		Pod: new Set(),
		Service: new Set(),
		ServiceCIDR: new Set(),
		EndpointSlice: new Set(),
		Namespace: new Set(),
		NetworkPolicy: new Set(),
		ClusterNetworkPolicy: new Set(),
	};
	readonly #synced = new Set<Kind>();
	readonly #problems = new Map<string, readonly Problem[]>();
	readonly #listeners = new Set<() => void>();
	#revision = 0;

	/** Another one after every update that changed something. */
	get revision(): number {
		return this.#revision;
	}

	/** A Pod or NetworkPolicy is a new object each time; other records stay the same object until they change. */
	get<K extends Kind>(kind: K, key: string): Records[K] | undefined {
		return this.#records[kind].get(key);
	}

	/** The file that a record stands in; undefined: its source has none. */
	fileOf(kind: Kind, key: string): string | undefined {
		return this.#records[kind].fileOf(key);
	}

	size(kind: Kind): number {
		return this.#records[kind].size;
	}

	keys(kind: Kind): IterableIterator<string> {
		return this.#records[kind].keys();
	}

	isSynced(kind: Kind): boolean {
		return this.#synced.has(kind);
	}

	problems(): Problem[] {
		return [...this.#problems.values()].flat();
	}

	/** A reader of one kind. It keeps the changed keys until they are taken. */
	reader(kind: Kind): StoreReader {
		let changed = new Set(this.keys(kind));
		this.#readers[kind].add(changed);
		return {
			take: () => {
				const taken = changed;
				this.#readers[kind].delete(taken);
				changed = new Set();
				this.#readers[kind].add(changed);
				return taken;
			},
		};
	}

	/** Called after every update that changed something; cheap work only. */
	listen(listener: () => void): void {
		this.#listeners.add(listener);
	}

	/** All of it is seen at once: `write` must not wait for anything. */
	update(write: (writer: StoreWriter) => void): void {
		let changed = false;
		const touch = (kind: Kind, key: string) => {
			changed = true;
			for (const keys of this.#readers[kind]) keys.add(key);
		};
		write({
			put: (kind, key, record, file) => {
				if (this.#records[kind].put(key, record, file)) touch(kind, key);
			},
			remove: (kind, key) => {
				if (this.#records[kind].delete(key)) touch(kind, key);
			},
			setSynced: (kind, synced) => {
				if (synced === this.#synced.has(kind)) return;
				if (synced) this.#synced.add(kind);
				else this.#synced.delete(kind);
				changed = true;
			},
			report: (source, problems) => {
				if (isDeepStrictEqual(this.#problems.get(source) ?? [], problems)) return;
				this.#problems.set(source, problems);
				changed = true;
			},
		});
		if (!changed) return;
		this.#revision++;
		for (const listener of this.#listeners) listener();
	}
}
