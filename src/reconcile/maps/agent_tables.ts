/**
 * The tables that the agent writes, as BPF maps: reads their content, writes entries in batches, and
 * reports the entries that the kernel refused.
 */
import { createHash } from "node:crypto";
import type { BpfError, BpfMap } from "#native";
import type { Codec } from "../../tables/codec.js";
import {
	type Backend,
	type Endpoint,
	type Frontend,
	maps,
	NodeConfig,
	type Peer,
	type Policy,
	type PolicyVerdict,
	type PortSet,
	type Route,
	type RuleCounter,
	type Service,
	type SourceAddress,
} from "../../tables/generated.js";

import { ElementWrites } from "./element_writes.js";
import { Fingerprints } from "./fingerprints.js";
import { mapSlices } from "./map_slices.js";

export interface EntryFailure<K> {
	key: K;
	message: string;
}

/** One map as keys and values. The map is looked up on each use, because it may be replaced. */
export class Table<K, V> {
	readonly #name: string;
	readonly #map: () => BpfMap;
	readonly #key: Codec<K>;
	readonly #value: Codec<V>;
	/** Arrays have no removal: an entry of zeros counts as none. */
	readonly #isArray: boolean;
	/** Told of each write; undefined: the core looks twice, or the map is no hash. */
	readonly #writes: ElementWrites | undefined;
	/** Digest of the map when it was last read; undefined: it was written since. */
	#digest: string | undefined;
	/** Fingerprints of the entries written since it was adopted; undefined: the writer keeps the content. */
	#written: Fingerprints | undefined;
	/** For an array: entries below this index were written. */
	#used = 0;

	constructor(
		definition: { name: string; type: number; key: Codec<K>; value: Codec<V> },
		map: (name: string) => BpfMap,
		writes?: ElementWrites,
	) {
		this.#writes = writes;
		this.#name = definition.name;
		this.#map = () => map(definition.name);
		this.#key = definition.key;
		this.#value = definition.value;
		this.#isArray = definition.type === maps.peers.type;
	}

	/** @param most entries; of an array: those below this index */
	read(most?: number): Map<K, V> {
		const entries = new Map<K, V>();
		if (most === 0) return entries;
		const map = this.#map();
		this.#decode(most === undefined ? map.entries() : map.slice(null, most), entries);
		return entries;
	}

	/**
	 * The same, a part at a time with turns of the event loop between.
	 *
	 * @param most entries; of an array: those below this index
	 */
	async *readInSlices(most?: number): AsyncGenerator<Map<K, V>> {
		for await (const slice of mapSlices(this.#map(), undefined, most)) {
			const entries = new Map<K, V>();
			this.#decode(slice, entries);
			yield entries;
		}
	}

	/**
	 * The same, and records fingerprints of all later writes, so that `countDiffering` finds foreign changes without
	 * a copy of the content.
	 */
	async *adoptInSlices(): AsyncGenerator<Map<K, V>> {
		for await (const slice of this.adoptPairs()) {
			const entries = new Map<K, V>();
			this.#decode(slice, entries);
			yield entries;
		}
	}

	/** The same, as keys and values that are encoded. */
	async *adoptPairs(): AsyncGenerator<{ keys: Buffer; values: Buffer }> {
		this.#written = undefined;
		this.#used = 0;
		const written = new Fingerprints(this.#key.size, this.#value.size);
		for await (const slice of mapSlices(this.#map())) {
			for (const index of this.#present(slice)) this.#note(written, slice, index);
			yield slice;
		}
		this.#written = written;
	}

	/** How many entries are missing, others' or not as they were written here. In slices; 0 before it was adopted. */
	async countDiffering(): Promise<number> {
		const differing = await this.#countDiffering();
		// A removal between two slices may hide an entry from the reader: a second time it is there.
		return differing === 0 ? 0 : this.#countDiffering();
	}

	async #countDiffering(): Promise<number> {
		const written = this.#written;
		if (written === undefined) return 0;
		let differing = 0;
		written.begin();
		const most = this.#isArray ? this.#used : undefined;
		for await (const slice of mapSlices(this.#map(), undefined, most)) {
			// It is being adopted anew.
			if (this.#written !== written) return 0;
			const { keys, values } = slice;
			for (const index of this.#present(slice))
				if (!written.see(keys, index * this.#key.size, values, index * this.#value.size))
					differing++;
		}
		return differing + written.unseen;
	}

	#note(written: Fingerprints, { keys, values }: { keys: Buffer; values: Buffer }, index: number) {
		written.set(keys, index * this.#key.size, values, index * this.#value.size);
		if (this.#isArray)
			this.#used = Math.max(this.#used, Number(this.#key.decode(keys, index * this.#key.size)) + 1);
	}

	/**
	 * False: the map holds what it held when this was last asked, and nothing was written here since.
	 * Far cheaper than reading it.
	 *
	 * @param most entries; of an array: those below this index
	 */
	async hasChanged(most?: number): Promise<boolean> {
		const hash = createHash("sha1");
		for await (const { keys, values } of mapSlices(this.#map(), undefined, most))
			hash.update(keys).update(values);
		const digest = hash.digest("base64");
		if (digest === this.#digest) return false;
		this.#digest = digest;
		return true;
	}

	#decode(slice: { keys: Buffer; values: Buffer }, entries: Map<K, V>): void {
		const { keys, values } = slice;
		for (const index of this.#present(slice))
			entries.set(
				this.#key.decode(keys, index * this.#key.size),
				this.#value.decode(values, index * this.#value.size),
			);
	}

	/** Indexes of a slice's entries. */
	*#present({ keys, values }: { keys: Buffer; values: Buffer }): Generator<number, void> {
		const [keySize, valueSize] = [this.#key.size, this.#value.size];
		// Most of an array is empty: that is found out many entries at a time.
		const zero = this.#isArray ? Buffer.alloc(valueSize * 256) : Buffer.alloc(0);
		const isEmpty = (from: number, to: number) =>
			this.#isArray && zero.compare(values, from, to, 0, to - from) === 0;
		for (let index = 0; index * keySize < keys.length; index++) {
			const at = index * valueSize;
			const next = Math.min(at + zero.length, values.length);
			if (index % 256 === 0 && isEmpty(at, next)) index += 255;
			else if (!isEmpty(at, at + valueSize)) yield index;
		}
	}

	/** Reads only these entries: all of a large, mostly empty array would stay resident. */
	readAt(keys: Iterable<K>): Map<K, V> {
		const map = this.#map();
		const zero = Buffer.alloc(this.#value.size);
		const entries = new Map<K, V>();
		for (const key of keys) {
			const value = map.lookup(this.#key.encode(key));
			if (value !== undefined && !(this.#isArray && value.equals(zero)))
				entries.set(key, this.#value.decode(value));
		}
		return entries;
	}

	/** Writes in one batch; if that fails, entry by entry, so that a bad entry affects no other. */
	put(entries: readonly (readonly [K, V])[]): EntryFailure<K>[] {
		return this.#around(() => this.#put(entries));
	}

	#around<T>(write: () => T): T {
		return this.#writes === undefined ? write() : this.#writes.around(write);
	}

	#put(entries: readonly (readonly [K, V])[]): EntryFailure<K>[] {
		this.#digest = undefined;
		const failures: EntryFailure<K>[] = [];
		const [keySize, valueSize] = [this.#key.size, this.#value.size];
		const keys = Buffer.alloc(entries.length * keySize);
		const values = Buffer.alloc(entries.length * valueSize);
		const encoded: K[] = [];
		for (const [key, value] of entries) {
			const [keyAt, valueAt] = [encoded.length * keySize, encoded.length * valueSize];
			try {
				this.#key.write(keys, keyAt, key);
				this.#value.write(values, valueAt, value);
				encoded.push(key);
			} catch (error) {
				// The next one uses this place, and padding must be zero.
				keys.fill(0, keyAt, keyAt + keySize);
				values.fill(0, valueAt, valueAt + valueSize);
				failures.push({ key, message: (error as Error).message });
			}
		}
		const map = this.#map();
		const count = encoded.length;
		const written = this.#written;
		const note = (index: number): void => {
			if (written !== undefined) this.#note(written, { keys, values }, index);
		};
		if (count > 1) {
			try {
				map.updateBatch(keys.subarray(0, count * keySize), values.subarray(0, count * valueSize));
				for (let index = 0; index < count; index++) note(index);
				return failures;
			} catch {
				// The failing entry is found below. Writing an entry twice is harmless.
			}
		}
		for (const [i, key] of encoded.entries()) {
			try {
				map.update(
					keys.subarray(i * keySize, (i + 1) * keySize),
					values.subarray(i * valueSize, (i + 1) * valueSize),
				);
				note(i);
			} catch (error) {
				failures.push({ key, message: this.#refusal("write", key, error as BpfError) });
			}
		}
		return failures;
	}

	/** The same as `put`, of keys and values that are encoded already. Returns the indexes of those that were refused. */
	putPairs(keys: Buffer, values: Buffer): (EntryFailure<K> & { index: number })[] {
		return this.#around(() => this.#putPairs(keys, values));
	}

	#putPairs(keys: Buffer, values: Buffer): (EntryFailure<K> & { index: number })[] {
		this.#digest = undefined;
		const map = this.#map();
		const [keySize, valueSize] = [this.#key.size, this.#value.size];
		const written = this.#written;
		const note = (index: number): void => {
			if (written !== undefined) this.#note(written, { keys, values }, index);
		};
		const count = keys.length / keySize;
		try {
			map.updateBatch(keys, values);
			for (let index = 0; index < count; index++) note(index);
			return [];
		} catch {
			// The failing entry is found below. Writing an entry twice is harmless.
		}
		const failures: (EntryFailure<K> & { index: number })[] = [];
		for (let index = 0; index < count; index++)
			try {
				map.update(
					keys.subarray(index * keySize, (index + 1) * keySize),
					values.subarray(index * valueSize, (index + 1) * valueSize),
				);
				note(index);
			} catch (error) {
				const key = this.#key.decode(keys, index * keySize);
				failures.push({ index, key, message: this.#refusal("write", key, error as BpfError) });
			}
		return failures;
	}

	remove(keys: readonly K[]): EntryFailure<K>[] {
		return this.#around(() => this.#remove(keys));
	}

	#remove(keys: readonly K[]): EntryFailure<K>[] {
		this.#digest = undefined;
		const failures: EntryFailure<K>[] = [];
		const map = this.#map();
		const zero = Buffer.alloc(this.#value.size);
		for (const key of keys) {
			try {
				const encoded = this.#key.encode(key);
				if (this.#isArray) map.update(encoded, zero);
				else map.delete(encoded);
				this.#written?.delete(encoded, 0);
			} catch (error) {
				failures.push({ key, message: this.#refusal("remove", key, error as BpfError) });
			}
		}
		return failures;
	}

	#refusal(act: string, key: K, { code, message }: BpfError): string {
		// Full LPM tries return ENOSPC, hashes E2BIG; an array returns E2BIG for an index out of range.
		const full = code === "E2BIG" || code === "ENOSPC";
		return full
			? `Cannot ${act} ${this.#name} entry ${key}: the map is full (${this.#map().info.maxEntries} entries)`
			: `Cannot ${act} ${this.#name} entry ${key}: ${message}`;
	}
}

export class AgentTables {
	readonly peers: Table<number, Peer>;
	readonly peerAddresses: Table<string, number>;
	readonly peerPaths: Table<number, Peer>;
	readonly peerGateways: Table<string, number>;
	readonly sourceAddresses: Table<number, SourceAddress>;
	readonly routes: Table<string, Route>;
	readonly endpoints: Table<string, Endpoint>;
	readonly frontends: Table<string, Frontend>;
	readonly services: Table<number, Service>;
	readonly serviceSlots: Table<number, number>;
	readonly backends: Table<number, Backend>;
	readonly backendStates: Table<number, bigint>;
	readonly serviceRanges: Table<string, number>;
	readonly identities: Table<string, number>;
	readonly blocks: Table<string, number>;
	readonly classLimit: Table<number, number>;
	readonly policies: Table<number, Policy>;
	/** By policy * 2^32 + class. */
	readonly policyVerdicts: Table<number, PolicyVerdict>;
	readonly portSets: Table<number, PortSet>;
	readonly ruleCounters: Table<number, RuleCounter>;
	readonly nodeConfig: Table<number, NodeConfig>;

	constructor(map: (name: string) => BpfMap) {
		const writes = new ElementWrites(map);
		this.peers = new Table(maps.peers, map);
		this.peerAddresses = new Table(maps.peerAddresses, map);
		this.peerPaths = new Table(maps.peerPaths, map);
		this.peerGateways = new Table(maps.peerGateways, map);
		this.sourceAddresses = new Table(maps.sourceAddresses, map);
		this.routes = new Table(maps.routes, map);
		this.endpoints = new Table(maps.endpoints, map, writes);
		this.frontends = new Table(maps.frontends, map);
		this.services = new Table(maps.services, map);
		this.serviceSlots = new Table(maps.serviceSlots, map);
		this.backends = new Table(maps.backends, map);
		this.backendStates = new Table(maps.backendStates, map);
		this.serviceRanges = new Table(maps.serviceRanges, map);
		this.identities = new Table(maps.identities, map, writes);
		this.blocks = new Table(maps.blocks, map);
		this.classLimit = new Table(maps.classLimit, map);
		this.policies = new Table(maps.policies, map);
		this.policyVerdicts = new Table(maps.policyVerdicts, map, writes);
		this.portSets = new Table(maps.portSets, map, writes);
		this.ruleCounters = new Table(maps.ruleCounters, map);
		this.nodeConfig = new Table(maps.nodeConfig, map);
	}

	/** The value in the kernel; all zero before the first write. */
	readNodeConfig(): NodeConfig {
		return this.nodeConfig.read().get(0) ?? NodeConfig.decode(Buffer.alloc(NodeConfig.size));
	}
}
