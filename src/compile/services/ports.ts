/**
 * The ports of Services as the tables have them: an index in `services`, two sets in `service_slots`, ids in
 * `backends`. All of it is found again by content after a restart.
 *
 * What is no longer used is not given to another port before the kernel has been told (`applied`): until then,
 * something in the tables may still lead there.
 */
import { isDeepStrictEqual } from "node:util";
import { nodeHash as nameHash } from "../../cluster/node_hash.js";
import { NO_TEXTS } from "../../cluster/shared.js";
import type { Steps } from "../../loop/turns.js";
import { type MapChanges, noEntries, putEntry, removeEntry } from "../../tables/changes.js";
import { BackendState, Limit, type Service } from "../../tables/generated.js";
import type { HeldServices, ServiceMapName } from "../../tables/tables.js";
import { Backends, type KnownBackend } from "./backends.js";
import type { PortSpec } from "./claims.js";
import { Indexes } from "./indexes.js";
import { arrange } from "./members.js";
import { Runs, runSize } from "./runs.js";

export type ServiceChanges = Pick<MapChanges, ServiceMapName>;

export function noServiceChanges(): ServiceChanges {
	return {
		...{ frontends: noEntries(), services: noEntries(), serviceSlots: noEntries() },
		...{ backends: noEntries(), backendStates: noEntries(), serviceRanges: noEntries() },
	};
}

/** An endpoint that serves, and its BackendState. */
export interface WantedBackend {
	address: string;
	port: number;
	state: number;
}

interface SetPlaces {
	first: number;
	/** Places of its run; 0: it has none. */
	size: number;
	/** Ids in the order of their places. */
	members: readonly number[];
}

export interface Port {
	/** Undefined: left by an earlier agent and not claimed yet. */
	spec: PortSpec | undefined;
	readonly index: number;
	readonly hash: bigint;
	/** Unique, also among former ports. */
	readonly owner: string;
	cluster: SetPlaces;
	local: SetPlaces;
	backends: readonly KnownBackend[];
	/** Keys of service_ranges. */
	ranges: readonly string[];
	value: Service | undefined;
}

/** A large run is given back for a smaller one where this part of it would do. */
const SPARSE = { size: 64, part: 4 };
const STEP = 256;
const NO_PLACES: SetPlaces = { first: 0, size: 0, members: [] };

export class Ports {
	readonly #taken = new Uint8Array(Limit.SERVICES_MAX);
	readonly #indexes = new Indexes(this.#taken, 1);
	readonly #runs = new Runs(Limit.SERVICE_SLOTS_MAX);
	readonly #backends = new Backends();
	/** Ports that an earlier agent left, by name hash. */
	#adopted = new Map<bigint, Port>();
	#freedRuns: { first: number; size: number }[] = [];
	#freedIndexes: number[] = [];
	#ranges = 0;
	#owners = 0;
	/** Room has been freed since the last call. */
	#hasRoom = false;

	/** Keeps the entries in the kernel as they are until they are claimed, or until `dropAdopted`. */
	*adopt(held: HeldServices, changes: ServiceChanges, now: number): Steps<void> {
		let steps = 0;
		for (const [word, states] of held.backendStates) {
			for (let at = 0; at < 8; at++) {
				const state = Number((states >> BigInt(at * 8)) & 0xffn);
				if (word * 8 + at > 0) this.#backends.adopt(word * 8 + at, state);
			}
			putEntry(changes.backendStates, word, states);
			if (++steps % STEP === 0) yield;
		}
		const byIndex = new Map<number, Port>();
		for (const [index, value] of held.services) {
			if (index < 1 || index >= Limit.SERVICES_MAX || this.#adopted.has(value.nameHash)) continue;
			this.#taken[index] = 1;
			const port = this.#port(index, value.nameHash);
			port.value = value;
			port.cluster = this.#adoptSet(value.clusterSet, held, changes);
			port.local = this.#adoptSet(value.localSet, held, changes);
			this.#adopted.set(value.nameHash, port);
			byIndex.set(index, port);
			putEntry(changes.services, index, value);
			if (++steps % STEP === 0) yield;
		}
		const backendsOf = new Map<Port, KnownBackend[]>();
		for (const [id, value] of held.backends) {
			const state = this.#backends.stateOf(id);
			if (state === 0) continue;
			putEntry(changes.backends, id, value);
			const port = byIndex.get(value.service);
			if (port !== undefined && (state & BackendState.SERVES) !== 0) {
				const list = backendsOf.get(port);
				if (list === undefined) backendsOf.set(port, [{ id, value }]);
				else list.push({ id, value });
			} else this.#backends.rest({ id, value }, port?.owner ?? "", now);
			if (++steps % STEP === 0) yield;
		}
		for (const [port, backends] of backendsOf) port.backends = backends;
		const ranges = new Map<Port, string[]>();
		for (const key of held.serviceRanges.keys()) {
			const port = byIndex.get(Number(key.slice(0, key.indexOf(" "))));
			if (port === undefined) continue;
			const keys = ranges.get(port);
			if (keys === undefined) ranges.set(port, [key]);
			else keys.push(key);
			putEntry(changes.serviceRanges, key, 1);
			this.#ranges++;
			if (++steps % STEP === 0) yield;
		}
		for (const [port, keys] of ranges) port.ranges = keys;
	}

	/** Removes the ports of an earlier agent that no Service has claimed: their Services no longer exist. */
	*dropAdopted(changes: ServiceChanges, now: number): Steps<void> {
		const left = this.#adopted;
		this.#adopted = new Map();
		for (const port of left.values()) {
			this.remove(port, changes, now);
			yield;
		}
	}

	/** Some port or backend that could not be had may be there now. */
	takeHasRoom(): boolean {
		const had = this.#hasRoom;
		this.#hasRoom = false;
		return had;
	}

	/** The kernel has all changes so far. */
	applied(): void {
		for (const { first, size } of this.#freedRuns) this.#runs.release(first, size);
		for (const index of this.#freedIndexes) {
			this.#taken[index] = 0;
			this.#indexes.freed(index);
		}
		this.#hasRoom ||= this.#freedRuns.length > 0 || this.#freedIndexes.length > 0;
		this.#freedRuns = [];
		this.#freedIndexes = [];
	}

	/** A port of a Service; undefined: all indexes are in use. It has no entries before `update`. */
	add(spec: PortSpec): Port | undefined {
		const hash = nameHash(spec.id);
		const former = this.#adopted.get(hash);
		if (former !== undefined) {
			this.#adopted.delete(hash);
			former.spec = spec;
			return former;
		}
		const index = this.#indexes.lowest();
		if (index === undefined) return undefined;
		this.#taken[index] = 1;
		const port = this.#port(index, hash);
		port.spec = spec;
		return port;
	}

	/**
	 * Brings a port's entries to these endpoints and its spec.
	 *
	 * @param keeps endpoints that are not among them stay as they are: not all are known yet
	 * @returns the kinds of entries for which there was no room
	 */
	update(
		port: Port,
		wanted: readonly WantedBackend[],
		{ keeps, now, changes }: { keeps: boolean; now: number; changes: ServiceChanges },
	): ("backends" | "places" | "ranges")[] {
		const lacking = new Set<"backends" | "places" | "ranges">();
		const known = new Map(
			port.backends.map((backend) => [`${backend.value.address} ${backend.value.port}`, backend]),
		);
		const backends: KnownBackend[] = [];
		const states = new Map<number, number>();
		for (const { address, port: number, state } of wanted) {
			const key = `${address} ${number}`;
			const value = { address, port: number, service: port.index };
			const backend = known.get(key) ?? this.#backends.take(port.owner, value, now, changes);
			known.delete(key);
			if (backend === undefined) {
				lacking.add("backends");
				continue;
			}
			// The same text, which was read from the kernel before: one of both stays.
			backend.value.address = address;
			backends.push(backend);
			states.set(backend.id, state);
		}
		if (keeps)
			for (const backend of known.values()) {
				backends.push(backend);
				states.set(backend.id, this.#backends.stateOf(backend.id));
			}
		const membersOf = (bit: number) =>
			new Set([...states].filter(([, state]) => (state & bit) !== 0).map(([id]) => id));
		for (const [name, bit] of [
			["cluster", BackendState.IN_CLUSTER_SET],
			["local", BackendState.IN_LOCAL_SET],
		] as const) {
			const members = membersOf(bit);
			port[name] = this.#place(port[name], members, changes);
			if (port[name].members.length === members.size) continue;
			lacking.add("places");
			const placed = new Set(port[name].members);
			for (const id of members) if (!placed.has(id)) states.set(id, states.get(id)! & ~bit);
		}
		for (const [id, state] of states) this.#backends.setState(id, state);
		if (!keeps)
			for (const backend of known.values()) {
				this.#backends.rest(backend, port.owner, now);
				this.#hasRoom = true;
			}
		port.backends = backends;
		if (!this.#setRanges(port, port.spec?.ranges ?? [], changes)) lacking.add("ranges");
		this.#setValue(port, changes);
		return [...lacking];
	}

	remove(port: Port, changes: ServiceChanges, now: number): void {
		for (const name of ["cluster", "local"] as const) {
			this.#free(port[name], changes);
			port[name] = NO_PLACES;
		}
		for (const backend of port.backends) this.#backends.rest(backend, "", now);
		port.backends = [];
		this.#setRanges(port, [], changes);
		removeEntry(changes.services, port.index);
		this.#freedIndexes.push(port.index);
		this.#hasRoom = true;
	}

	/** What is left to be said of all changes. */
	*settle(changes: ServiceChanges, now: number): Steps<void> {
		yield* this.#backends.forget(now, changes);
		this.#backends.settle(changes);
	}

	stateOf(id: number): number {
		return this.#backends.stateOf(id);
	}

	#port(index: number, hash: bigint): Port {
		// One literal: each object that is spread from another has a hidden class of its own.
		return {
			spec: undefined,
			index,
			hash,
			owner: String(++this.#owners),
			cluster: NO_PLACES,
			local: NO_PLACES,
			backends: [],
			ranges: NO_TEXTS,
			value: undefined,
		};
	}

	#adoptSet(word: bigint, held: HeldServices, changes: ServiceChanges): SetPlaces {
		const [first, count] = [Number(word & 0xffffffffn), Number(word >> 32n)];
		if (count === 0 || first + count > Limit.SERVICE_SLOTS_MAX) return NO_PLACES;
		const size = runSize(count);
		// It stays where it is until it changes; another one's place is not released with it.
		if (!this.#runs.takeAt(first, size)) return NO_PLACES;
		const members: number[] = [];
		for (let at = first; at < first + count; at++) {
			const id = held.serviceSlots.get(at) ?? 0;
			members.push(id);
			if (id !== 0) putEntry(changes.serviceSlots, at, id);
		}
		return { first, size, members };
	}

	/** Changes as few places as possible. With too little room, some are left out. */
	#place(
		places: SetPlaces,
		wanted: ReadonlySet<number>,
		{ serviceSlots }: ServiceChanges,
	): SetPlaces {
		const { first, size, members: before } = places;
		let members = arrange(before, wanted);
		const isSparse = size >= SPARSE.size && members.length * SPARSE.part <= size;
		if (members.length === 0 && isSparse) {
			this.#free(places, { serviceSlots });
			return NO_PLACES;
		}
		if (members.length > size || isSparse) {
			const next = { first: 0, size: runSize(members.length), members };
			const taken = this.#runs.take(next.size);
			if (taken !== undefined) {
				this.#free(places, { serviceSlots });
				next.first = taken;
				for (const [at, id] of members.entries()) putEntry(serviceSlots, taken + at, id);
				return next;
			}
			members = members.slice(0, size);
		}
		for (const [at, id] of members.entries())
			if (before[at] !== id) putEntry(serviceSlots, first + at, id);
		for (let at = members.length; at < before.length; at++) removeEntry(serviceSlots, first + at);
		return { first, size, members };
	}

	#free(
		{ first, size, members }: SetPlaces,
		{ serviceSlots }: Pick<ServiceChanges, "serviceSlots">,
	) {
		if (size === 0) return;
		for (const at of members.keys()) removeEntry(serviceSlots, first + at);
		this.#freedRuns.push({ first, size });
	}

	/** False: the table has no room for all ranges; sources in the others are refused. */
	#setRanges(port: Port, ranges: readonly string[], { serviceRanges }: ServiceChanges): boolean {
		if (port.ranges.length === 0 && ranges.length === 0) return true;
		const keys = ranges.map((range) => `${port.index} ${range}`);
		const before = new Set(port.ranges);
		const now: string[] = [];
		for (const key of new Set(keys)) {
			if (!before.delete(key)) {
				if (this.#ranges >= Limit.SERVICE_RANGES_MAX) continue;
				this.#ranges++;
				putEntry(serviceRanges, key, 1);
			}
			now.push(key);
		}
		for (const key of before) {
			this.#ranges--;
			this.#hasRoom = true;
			removeEntry(serviceRanges, key);
		}
		port.ranges = now;
		return now.length === new Set(keys).size;
	}

	#setValue(port: Port, { services }: ServiceChanges): void {
		const value: Service = {
			clusterSet: wordOf(port.cluster),
			localSet: wordOf(port.local),
			nameHash: port.hash,
			affinity: port.spec?.affinity ?? 0,
			flags: port.spec?.flags ?? 0,
		};
		if (isDeepStrictEqual(port.value, value)) return;
		port.value = value;
		putEntry(services, port.index, value);
	}
}

function wordOf({ first, members }: SetPlaces): bigint {
	return members.length === 0 ? 0n : BigInt(first) | (BigInt(members.length) << 32n);
}
