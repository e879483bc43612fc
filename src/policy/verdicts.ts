/**
 * Verdicts over all ports, kept once for all that are equal: in place where every port has the same, else as a
 * port set in parts. A port set's ids are free again one round after its last user has gone.
 */
import { PORT_SET_RANGES, type PortSetPart, type Verdict } from "./policy_tables.js";
import type { Judgement, Segment } from "./port_space.js";

/** Equal verdicts are the same object while one of them is in use. */
export interface KeptVerdict {
	readonly verdict: Verdict;
	readonly segments: readonly Segment[];
	/** Ids of the parts; empty for a verdict in place. */
	readonly ids: readonly number[];
	readonly text: string;
	users: number;
}

/** Gives ids of an array: lowest first, those that were used before last. */
export class Ids {
	readonly #free: number[] = [];
	readonly #limit: number;
	#next: number;
	/** In use by an earlier agent. */
	readonly #held: Set<number>;
	readonly #isSoft: boolean;

	/**
	 * @param held ids that are not to be given until they are given back
	 * @param isSoft they are, if there are no others
	 */
	constructor(first: number, limit: number, held: Iterable<number> = [], isSoft = false) {
		this.#isSoft = isSoft;
		this.#next = first;
		this.#limit = limit;
		this.#held = new Set(held);
		for (const id of this.#held) if (id < first || id >= limit) this.#held.delete(id);
	}

	/** Undefined: there are none left. */
	take(): number | undefined {
		while (this.#held.has(this.#next)) this.#next++;
		if (this.#next < this.#limit) return this.#next++;
		const id = this.#free.shift();
		if (id !== undefined || !this.#isSoft) return id;
		for (const held of this.#held) {
			this.#held.delete(held);
			return held;
		}
		return undefined;
	}

	isHeld(id: number): boolean {
		return this.#held.has(id);
	}

	/** Only when no reader can hold it, and no write that removes it is to come. */
	give(id: number): void {
		this.#held.delete(id);
		if (id < this.#next) this.#free.push(id);
	}

	get left(): number {
		let held = 0;
		if (!this.#isSoft) for (const id of this.#held) if (id >= this.#next) held++;
		return this.#limit - this.#next - held + this.#free.length;
	}
}

export class Verdicts {
	readonly #kept = new Map<string, KeptVerdict>();
	readonly #ids: Ids;
	readonly #onNew: (id: number, part: PortSetPart) => void;
	readonly #onUnused: (ids: readonly number[]) => void;

	constructor(
		ids: Ids,
		onNew: (id: number, part: PortSetPart) => void,
		onUnused: (ids: readonly number[]) => void,
	) {
		this.#ids = ids;
		this.#onNew = onNew;
		this.#onUnused = onUnused;
	}

	/** Ids of parts that are free. */
	get left(): number {
		return this.#ids.left;
	}

	/** With one more user. Undefined: there is no room for it. */
	take(segments: readonly Segment[]): KeptVerdict | undefined {
		const text = segments.map(textOf).join();
		const kept = this.#kept.get(text) ?? this.#make(text, segments);
		if (kept === undefined) return undefined;
		this.#kept.set(text, kept);
		kept.users++;
		return kept;
	}

	retain(kept: KeptVerdict): KeptVerdict {
		kept.users++;
		return kept;
	}

	release(kept: KeptVerdict): void {
		if (--kept.users > 0) return;
		this.#kept.delete(kept.text);
		if (kept.ids.length > 0) this.#onUnused(kept.ids);
	}

	#make(text: string, segments: readonly Segment[]): KeptVerdict | undefined {
		const count = partsOf(segments);
		if (count === 0) {
			const verdict = { judgement: segments[0]!.judgement };
			return { verdict, segments, ids: [], text, users: 0 };
		}
		if (this.#ids.left < count) return undefined;
		const ids = Array.from({ length: count }, () => this.#ids.take()!);
		for (const [i, id] of ids.entries()) {
			const end = (i + 1) * PORT_SET_RANGES;
			const part = segments.slice(i * PORT_SET_RANGES, end);
			const rest = i + 1 < count ? { nextFrom: segments[end]!.from, next: ids[i + 1]! } : {};
			this.#onNew(id, { segments: part, ...rest });
		}
		return { verdict: { portSet: ids[0]! }, segments, ids, text, users: 0 };
	}
}

/** None: the verdict is in place. */
export function partsOf(segments: readonly Segment[]): number {
	return segments.length === 1 ? 0 : Math.ceil(segments.length / PORT_SET_RANGES);
}

function textOf({ from, judgement }: Segment): string {
	const { staged } = judgement;
	const then = staged === undefined ? "" : `/${textOfOne(staged)}`;
	return `${from}:${textOfOne(judgement)}${then}`;
}

function textOfOne({ allow, rule }: Pick<Judgement, "allow" | "rule">): string {
	return `${allow ? "" : "-"}${rule}`;
}
