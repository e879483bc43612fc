/**
 * Entries of `policy_verdicts` in the kernel: their number, in which entries to be removed count until the next round,
 * and the verdicts of an earlier agent's policies on its classes.
 */
import type { Steps } from "../loop/turns.js";
import type { Garbage } from "./garbage.js";
import {
	type HeldPolicyTables,
	type Verdict,
	verdictKey,
	type WriteTable,
} from "./policy_tables.js";

/** Entries between two steps. */
const EVERY = 256;

export class VerdictEntries {
	readonly #write: WriteTable;
	readonly #garbage: Garbage;
	readonly #most: number;
	readonly #onGone: () => void;
	#count = 0;
	/** An earlier agent's, by class. */
	readonly #held = new Map<number, [key: number, verdict: Verdict][]>();

	/** @param onGone there is room for one more */
	constructor(write: WriteTable, garbage: Garbage, most: number, onGone: () => void) {
		this.#write = write;
		this.#garbage = garbage;
		this.#most = most;
		this.#onGone = onGone;
	}

	hasRoom(count: number): boolean {
		return this.#count + count <= this.#most;
	}

	put(policy: number, number: number, verdict: Verdict): void {
		this.#write(2, "policyVerdicts", verdictKey(policy, number), verdict);
		this.#count++;
	}

	/** It goes in the next round. */
	discard(policy: number, number: number): void {
		this.#discard(verdictKey(policy, number));
	}

	// ------------------------------------------------------------ an earlier agent

	/** Before anything is put. */
	*hold(verdicts: HeldPolicyTables["policyVerdicts"]): Steps<void> {
		let looked = 0;
		this.#count = verdicts.size;
		for (const [key, verdict] of verdicts) {
			if (++looked % EVERY === 0) yield;
			const number = key % 2 ** 32;
			const known = this.#held.get(number);
			if (known === undefined) this.#held.set(number, [[key, verdict]]);
			else known.push([key, verdict]);
		}
	}

	/** Copies the verdicts of the class that the addresses had to a new class. */
	copyHeld(held: number, number: number): void {
		for (const [key, verdict] of this.#held.get(held) ?? []) {
			if (!this.hasRoom(1)) return;
			const copy = key - held + number;
			this.#write(2, "policyVerdicts", copy, verdict);
			this.#count++;
			this.#discard(copy);
		}
	}

	*discardHeld(verdicts: HeldPolicyTables["policyVerdicts"]): Steps<void> {
		let count = 0;
		for (const key of verdicts.keys()) {
			this.#discard(key);
			if (++count % EVERY === 0) yield;
		}
	}

	/** Ends the copying. */
	forgetHeld(): void {
		this.#held.clear();
	}

	#discard(key: number): void {
		this.#garbage.add("policyVerdicts", key, this.#forget);
	}

	readonly #forget = () => {
		this.#count--;
		this.#onGone();
	};
}
