/**
 * Ids of backends and their states. An id belongs to one endpoint for as long as any flow may refer to it:
 *
 *  1. taken by a new endpoint: one that has rested long enough, else the lowest free one
 *  2. gone, it rests BACKEND_REST_SECONDS; its endpoint gets it again if it comes back meanwhile
 *  3. many that have rested are forgotten; a few are only taken again, which costs no write of its own
 */
import type { Steps } from "../../loop/turns.js";
import { type EntryChanges, putEntry, removeEntry } from "../../tables/changes.js";
import { type Backend, BackendState, Limit } from "../../tables/generated.js";
import { Indexes } from "./indexes.js";

export interface BackendChanges {
	backends: EntryChanges<number, Backend>;
	backendStates: EntryChanges<number, bigint>;
}

/** An id, and its entry in `backends`. */
export interface KnownBackend {
	id: number;
	value: Backend;
}

interface Rest {
	/** ms */
	due: number;
	value: Backend;
	/** "": its endpoint cannot get it back. */
	key: string;
}

/** Rested ids are freed only when there are this many. */
const FORGET_FROM = 1024;
const STEP = 256;

export class Backends {
	/** By id. */
	readonly #states = new Uint8Array(Limit.BACKENDS_MAX);
	readonly #words = new BigUint64Array(this.#states.buffer);
	/** Index 0 is no backend. */
	readonly #ids = new Indexes(this.#states, 1);
	/** By id, in the order in which they are due. */
	readonly #rests = new Map<number, Rest>();
	readonly #byKey = new Map<string, number>();
	#touched = new Set<number>();

	/** BackendState */
	stateOf(id: number): number {
		return this.#states[id] ?? 0;
	}

	/** Takes over the state that an earlier agent left; no endpoint owns it yet. */
	adopt(id: number, state: number): void {
		this.#states[id] = state;
	}

	/**
	 * Gives an id to an endpoint that has none. No set contains the backend yet.
	 *
	 * @param owner the port that has the endpoint; never reused for another port
	 * @returns undefined: all ids are in use
	 */
	take(owner: string, value: Backend, now: number, { backends }: BackendChanges) {
		const key = `${owner} ${value.address} ${value.port}`;
		const former = this.#byKey.get(key);
		if (former !== undefined) {
			const rest = this.#rests.get(former)!;
			this.#wake(former);
			return { id: former, value: rest.value };
		}
		const id = this.#rested(now) ?? this.#ids.lowest();
		if (id === undefined) return undefined;
		// Taken from now on, whatever state it gets.
		this.#set(id, BackendState.SERVES);
		putEntry(backends, id, value);
		return { id, value };
	}

	setState(id: number, state: number): void {
		if (this.#states[id] !== state) this.#set(id, state);
	}

	/** @param owner as in `take`; "": its endpoint cannot get it back */
	rest({ id, value }: KnownBackend, owner: string, now: number): void {
		const key = owner === "" ? "" : `${owner} ${value.address} ${value.port}`;
		this.setState(id, BackendState.RESTS);
		this.#rests.delete(id);
		this.#rests.set(id, { due: now + Limit.BACKEND_REST_SECONDS * 1000, value, key });
		if (key !== "") this.#byKey.set(key, id);
	}

	/** Frees rested ids when there are many. */
	*forget(now: number, { backends }: BackendChanges): Steps<void> {
		let due = 0;
		for (const rest of this.#rests.values()) {
			if (rest.due > now || due === FORGET_FROM) break;
			due++;
		}
		if (due < FORGET_FROM) return;
		for (let n = 0; ; n++) {
			const id = this.#rested(now);
			if (id === undefined) return;
			this.#set(id, 0);
			this.#ids.freed(id);
			removeEntry(backends, id);
			if (n % STEP === 0) yield;
		}
	}

	/** Emits the states that have changed since the last call. */
	settle({ backendStates }: BackendChanges): void {
		for (const word of this.#touched) {
			const states = this.#words[word]!;
			if (states === 0n) removeEntry(backendStates, word);
			else putEntry(backendStates, word, states);
		}
		this.#touched = new Set();
	}

	/** One that has rested and rests no more. */
	#rested(now: number): number | undefined {
		for (const [id, { due }] of this.#rests) {
			if (due > now) return undefined;
			this.#wake(id);
			return id;
		}
		return undefined;
	}

	#wake(id: number): void {
		const key = this.#rests.get(id)?.key ?? "";
		this.#rests.delete(id);
		if (this.#byKey.get(key) === id) this.#byKey.delete(key);
	}

	#set(id: number, state: number): void {
		this.#states[id] = state;
		this.#touched.add(id >> 3);
	}
}
