/** What a reflector knows about its kind: whether its objects are known and current, and if not, why. */

export interface ReflectorFacts {
	/** A complete list has been read once. */
	synced: boolean;
	/** A watch is open, so the known objects are current. */
	live: boolean;
	/** The server does not have this kind. */
	absent: boolean;
	/** When the last list, event or bookmark came, on the clock; undefined: never. */
	heardAt: number | undefined;
	/** Watches that ended before their time and were opened again. */
	reconnects: number;
}

export class ReflectorState {
	readonly #onChange: () => void;
	#facts: ReflectorFacts = {
		...{ synced: false, live: false, absent: false },
		...{ heardAt: undefined, reconnects: 0 },
	};
	#problem: string | undefined;
	/** The present loss of the watch is in `reconnects`. */
	#counted = false;

	/** @param onChange the objects became known or current, or ceased to be, or there is another problem */
	constructor(onChange: () => void) {
		this.#onChange = onChange;
	}

	get facts(): ReflectorFacts {
		return this.#facts;
	}

	/** Why this kind is not known, or no longer current: one sentence that stays the same over attempts. */
	get problem(): string | undefined {
		return this.#problem;
	}

	note(change: Partial<ReflectorFacts>): void {
		const before = this.#facts;
		this.#facts = { ...before, ...change };
		if (before.synced !== this.#facts.synced || before.live !== this.#facts.live) this.#onChange();
	}

	fail(problem: string): void {
		this.#problem = problem;
		this.#onChange();
	}

	/** All objects were listed. @param absent the server does not have the kind, and so no objects */
	listed(heardAt: number, absent = false): void {
		this.#problem = undefined;
		this.note({ synced: true, absent, heardAt });
	}

	watching(): void {
		this.#counted = false;
		this.#problem = undefined;
		this.note({ live: true });
	}

	/** A request failed; counts once, until the next watch. */
	lost(): void {
		if (this.#counted || !this.#facts.synced) return;
		this.#counted = true;
		this.note({ reconnects: this.#facts.reconnects + 1 });
	}
}
