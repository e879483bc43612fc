/**
 * Classes: sets of atoms that hold for an address, each with a number that is local to this Node and never given twice.
 * Numbers of an earlier agent's tables are kept where its classes and these agree.
 */
import type { Steps } from "../loop/turns.js";
import type { Atoms } from "./atoms.js";
import { FIRST_CLASS, type HeldPolicyTables, NO_CLASS } from "./policy_tables.js";
import type { ClassAtoms } from "./rule_list.js";

export interface Class extends ClassAtoms {
	number: number;
}

/** Numbers of an earlier agent that are read between two steps. */
const EVERY = 2048;
const NO_PORTS: ClassAtoms["ports"] = [];
const NO_CLASSES: readonly Class[] = [];

export class Classes {
	readonly #atoms: Atoms;
	#byText = new Map<string, Class>();
	#byNumber = new Map<number, Class>();
	#byAtom = new Map<number, Class[]>();
	#next = FIRST_CLASS;
	/** Numbers of an earlier agent that no class has yet. */
	readonly #held = new Set<number>();

	constructor(atoms: Atoms, held?: HeldPolicyTables) {
		this.#atoms = atoms;
		this.#add([], NO_CLASS);
		if (held !== undefined) this.#next = Math.max(FIRST_CLASS, held.classLimit);
	}

	/** Before any is added. */
	*hold({ identities, blocks }: Pick<HeldPolicyTables, "identities" | "blocks">): Steps<void> {
		let looked = 0;
		for (const numbers of [identities.values(), blocks.values()])
			for (const number of numbers) {
				if (number >= FIRST_CLASS && number < this.#next) this.#held.add(number);
				if (++looked % EVERY === 0) yield;
			}
	}

	/** All numbers are below. */
	get next(): number {
		return this.#next;
	}

	get size(): number {
		return this.#byNumber.size;
	}

	/** @param atoms sorted */
	find(atoms: readonly number[]): Class | undefined {
		return this.#byText.get(atoms.join());
	}

	at(number: number): Class | undefined {
		return this.#byNumber.get(number);
	}

	all(): IterableIterator<Class> {
		return this.#byNumber.values();
	}

	/** Classes with this atom. */
	with(atom: number): readonly Class[] {
		return this.#byAtom.get(atom) ?? NO_CLASSES;
	}

	/**
	 * With a number of its own, or that of an earlier agent's class if no other has it.
	 *
	 * @param atoms sorted; of a set that is there already where an earlier agent told its addresses apart
	 */
	add(atoms: readonly number[], held?: number): number {
		const keeps = held !== undefined && this.#held.delete(held);
		const number = keeps ? held : this.#next++;
		this.#add(atoms, number);
		return number;
	}

	/** Forgets all: those that come have new numbers. */
	restart(): void {
		this.#byText = new Map();
		this.#byNumber = new Map();
		this.#byAtom = new Map();
		this.#add([], NO_CLASS);
		this.forgetHeld();
	}

	/** Numbers of an earlier agent are not given any more. */
	forgetHeld(): void {
		this.#held.clear();
	}

	/** Ports with names in these atoms. */
	portsOf(atoms: readonly number[]): ClassAtoms["ports"] {
		if (this.#atoms.ports === 0) return NO_PORTS;
		return atoms.flatMap((id) => {
			const atom = this.#atoms.get(id);
			return atom?.kind === "port" ? [atom] : [];
		});
	}

	#add(atoms: readonly number[], number: number): void {
		const added: Class = { number, atoms, ports: this.portsOf(atoms) };
		const text = atoms.join();
		if (!this.#byText.has(text)) this.#byText.set(text, added);
		this.#byNumber.set(number, added);
		for (const atom of atoms) {
			const classes = this.#byAtom.get(atom);
			if (classes === undefined) this.#byAtom.set(atom, [added]);
			else classes.push(added);
		}
	}
}
