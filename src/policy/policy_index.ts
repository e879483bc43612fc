/** Which policies have rules that name an atom, or a port by its name. */
import type { Policy } from "./policy.js";
import type { ClassAtoms } from "./rule_list.js";

const NONE: ReadonlySet<Policy> = new Set();

export class PolicyIndex {
	readonly #byAtom = new Map<number, Set<Policy>>();
	readonly #byName = new Map<string, Set<Policy>>();

	/** Atoms that some policy names. */
	get atoms(): number {
		return this.#byAtom.size;
	}

	add(policy: Policy): void {
		for (const name of policy.list.names) put(this.#byName, name, policy);
		for (const atom of policy.list.atoms) put(this.#byAtom, atom, policy);
	}

	remove(policy: Policy): void {
		for (const atom of policy.list.atoms) drop(this.#byAtom, atom, policy);
		for (const name of policy.list.names) drop(this.#byName, name, policy);
	}

	withAtom(atom: number): ReadonlySet<Policy> {
		return this.#byAtom.get(atom) ?? NONE;
	}

	withName(name: string): ReadonlySet<Policy> {
		return this.#byName.get(name) ?? NONE;
	}

	/** Those that may tell a class from addresses that nothing names; may come more than once. */
	*concerning({ atoms, ports }: ClassAtoms): Generator<Policy, void> {
		for (const atom of atoms) yield* this.withAtom(atom);
		for (const { name } of ports) yield* this.withName(name);
	}
}

function put<K>(map: Map<K, Set<Policy>>, key: K, policy: Policy): void {
	const policies = map.get(key);
	if (policies === undefined) map.set(key, new Set([policy]));
	else policies.add(policy);
}

function drop<K>(map: Map<K, Set<Policy>>, key: K, policy: Policy): void {
	const policies = map.get(key);
	policies?.delete(policy);
	if (policies?.size === 0) map.delete(key);
}
