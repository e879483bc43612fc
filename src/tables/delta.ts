/**
 * What a table holds, what it should hold, and the keys where the two differ, so that a change costs as
 * much as it changes. Pure; `diffMap` (diff.ts) is the obvious way to the same differences.
 */
import { type MapDifference, sameValue } from "./diff.js";

/** Entries between two yields: some 0.1 ms. */
const STEP = 512;

export class Delta<K, V> {
	readonly #actual: Map<K, V>;
	#wanted: ReadonlyMap<K, V> = new Map();
	readonly #pending: Set<K>;

	/** The desired content is empty at first. @param actual belongs to this from now on */
	constructor(actual: Map<K, V> = new Map()) {
		this.#actual = actual;
		this.#pending = new Set(actual.keys());
	}

	get actual(): ReadonlyMap<K, V> {
		return this.#actual;
	}

	/**
	 * Sets the desired content, in steps between which others may run. Values are replaced, never changed:
	 * one that stays the same object is not compared. The same map as before means that only keys passed to
	 * `check` have changed.
	 */
	*want(wanted: ReadonlyMap<K, V>): Generator<void, void> {
		const before = this.#wanted;
		if (wanted === before) return;
		this.#wanted = wanted;
		let seen = 0;
		for (const [key, value] of wanted) {
			if (before.get(key) !== value) this.check(key);
			if (++seen % STEP === 0) yield;
		}
		for (const key of before.keys()) {
			if (!wanted.has(key)) this.check(key);
			if (++seen % STEP === 0) yield;
		}
	}

	/** Checks a key whose desired value may have changed. */
	check(key: K): void {
		const [has, wants] = [this.#actual.has(key), this.#wanted.has(key)];
		const [actual, wanted] = [this.#actual.get(key), this.#wanted.get(key)];
		if (has !== wants || (has && !sameValue(actual, wanted))) {
			this.#pending.add(key);
			return;
		}
		this.#pending.delete(key);
		// One object for both: what was read from the kernel would stay beside it.
		if (has && actual !== wanted) this.#actual.set(key, wanted as V);
	}

	/** The table holds this now. */
	hold(key: K, value: V): void {
		this.#actual.set(key, value);
		this.check(key);
	}

	/** The table no longer has this key. Returns whether it had. */
	drop(key: K): boolean {
		const had = this.#actual.delete(key);
		this.check(key);
		return had;
	}

	/** The key is desired, and the table does not hold its desired value. */
	lacks(key: K): boolean {
		return this.#pending.has(key) && this.#wanted.has(key);
	}

	/** The desired value of this key. */
	wanted(key: K): V | undefined {
		return this.#wanted.get(key);
	}

	/**
	 * The keys whose desired value the table does not hold, one after another; keys that change meanwhile may or may
	 * not be among them.
	 */
	*keysToPut(): Generator<K, void> {
		for (const key of this.#pending) if (this.#wanted.has(key)) yield key;
	}

	/** The keys that are held and not desired, likewise. */
	*keysToRemove(): Generator<K, void> {
		for (const key of this.#pending) if (!this.#wanted.has(key)) yield key;
	}

	/** The differences at this moment. */
	difference(): MapDifference<K, V> {
		const put: [K, V][] = [];
		const remove: K[] = [];
		for (const key of this.#pending) {
			if (this.#wanted.has(key)) put.push([key, this.#wanted.get(key)!]);
			else remove.push(key);
		}
		return { put, remove };
	}
}
