/**
 * Atoms: the single conditions that a peer of a rule can have for an address. Each has a number, which all rules
 * with that condition share. For the policies in force, an address is the set of atoms that hold for it.
 */
import { type Selector, selectorText } from "../cluster/selector.js";
import { type Budgets, CLUSTER, prefixesOf } from "./limits.js";

export type Atom =
	/** Pods by labels; `namespace`: of that one, else of those that `namespaces` selects. */
	| { kind: "pods"; namespace: string | undefined; namespaces: Selector; pods: Selector }
	| { kind: "block"; block: string; except: readonly string[] }
	| { kind: "nodes"; nodes: Selector }
	/** A Pod has a container port of that name with this protocol and number. */
	| { kind: "port"; name: string; protocol: number; port: number };

/** `owner`: the namespace of the policy that said it first, or CLUSTER. */
export type NumberedAtom = Atom & { id: number; owner: string };

export class Atoms {
	readonly #byText = new Map<string, NumberedAtom>();
	readonly #byId = new Map<number, NumberedAtom>();
	readonly #budgets: Budgets | undefined;
	#next = 1;
	#ports = 0;

	/** @param budgets of what they are counted in, if they are */
	constructor(budgets?: Budgets) {
		this.#budgets = budgets;
	}

	get ports(): number {
		return this.#ports;
	}

	/** Without named ports, whose numbers are the Pods' and not the rules'. */
	get sayable(): number {
		return this.#byText.size - this.#ports;
	}

	/** Equal for equal ones; undefined: it has a number already. */
	freshText(atom: Atom): string | undefined {
		const text = textOf(atom);
		return this.#byText.has(text) ? undefined : text;
	}

	/** Calls back with one that is new. */
	number(atom: Atom, onNew: (atom: NumberedAtom) => void, owner = CLUSTER): number {
		const text = textOf(atom);
		const known = this.#byText.get(text);
		if (known !== undefined) return known.id;
		const numbered = { ...atom, id: this.#next++, owner };
		this.#byText.set(text, numbered);
		this.#byId.set(numbered.id, numbered);
		if (atom.kind === "port") this.#ports++;
		this.#count(numbered, 1);
		onNew(numbered);
		return numbered.id;
	}

	get(id: number): NumberedAtom | undefined {
		return this.#byId.get(id);
	}

	all(): IterableIterator<NumberedAtom> {
		return this.#byId.values();
	}

	/** Forgets those that nothing needs. Their numbers are not given again. */
	retain(isNeeded: (atom: NumberedAtom) => boolean): void {
		for (const [text, atom] of this.#byText)
			if (!isNeeded(atom)) {
				this.#byText.delete(text);
				if (atom.kind === "port") this.#ports--;
				this.#count(atom, -1);
				this.#byId.delete(atom.id);
			}
	}

	#count(atom: NumberedAtom, by: number): void {
		if (atom.kind === "port") return;
		this.#budgets?.atoms.take(atom.owner, by);
		if (atom.kind === "block") this.#budgets?.prefixes.take(atom.owner, by * prefixesOf(atom));
	}
}

function textOf(atom: Atom): string {
	switch (atom.kind) {
		case "pods":
			return atom.namespace === undefined
				? `pods\0${selectorText(atom.namespaces)}\0${selectorText(atom.pods)}`
				: `own\0${atom.namespace}\0${selectorText(atom.pods)}`;
		case "block":
			return `block\0${atom.block}\0${atom.except.join()}`;
		case "nodes":
			return `nodes\0${selectorText(atom.nodes)}`;
		case "port":
			return `port\0${atom.name}\0${atom.protocol}\0${atom.port}`;
	}
}

/** Sorted numbers of both, each once. */
export function union(a: readonly number[], b: readonly number[]): readonly number[] {
	if (b.length === 0) return a;
	if (a.length === 0) return b;
	const all: number[] = [];
	let [i, j] = [0, 0];
	while (i < a.length || j < b.length) {
		const [x, y] = [a[i] ?? Number.POSITIVE_INFINITY, b[j] ?? Number.POSITIVE_INFINITY];
		all.push(Math.min(x, y));
		if (x <= y) i++;
		if (y <= x) j++;
	}
	return all;
}
