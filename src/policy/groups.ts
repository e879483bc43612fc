/**
 * Pods that no policy can tell apart: those of one namespace with the same labels and named ports. The
 * selectors in force are evaluated once for a group, by an index over labels.
 */
import type { Labels } from "../cluster/labels.js";
import type { NamedPort } from "../cluster/pod_object.js";
import { PROTOCOLS } from "../cluster/policy_fields.js";
import { matches, type Selector, selectorText } from "../cluster/selector.js";
import type { Steps } from "../loop/turns.js";
import { type Atom, type NumberedAtom, union } from "./atoms.js";
import { SelectorIndex } from "./selector_index.js";

export interface Group {
	key: string;
	namespace: string;
	labels: Labels;
	ports: readonly NamedPort[];
	/** Selectors and ports that hold, sorted. */
	atoms: readonly number[];
	/** The row of the first Pod that claims addresses (pod_rows.ts); -1: none does. */
	first: number;
	/** Pods that refer to it. */
	users: number;
	/** Class by the id of the blocks that cover an address; undefined: of none yet. */
	classes: Map<number, number> | undefined;
}

type PodsAtom = Extract<NumberedAtom, { kind: "pods" }>;

/** Selectors of one selection of namespaces. */
interface Selection {
	namespaces: Selector;
	pods: SelectorIndex<number>;
}

/** Groups between two steps. */
const EVERY = 32;
/** More selectors at once are looked up for each group, fewer are each tried on the groups. */
const TRIED_ALONE = 16;

export interface GroupsOptions {
	labelsOf: (namespace: string) => Labels;
	/** The number of the atom "has this port". */
	portAtom: (atom: Atom) => number;
	/** The group's atoms are new. */
	onChange: (group: Group) => void;
}

export class Groups {
	readonly #options: GroupsOptions;
	readonly #byKey = new Map<string, Group>();
	readonly #byNamespace = new Map<string, Set<Group>>();
	/** Selectors of Pods in a namespace that is named. */
	#own = new Map<string, SelectorIndex<number>>();
	#selections = new Map<string, Selection>();
	#selectionIndex = new SelectorIndex<Selection>();
	/** Selections by namespace, for namespaces with groups. */
	readonly #selecting = new Map<string, Selection[]>();
	/** Names of ports that rules in force use. */
	#names = new Set<string>();

	constructor(options: GroupsOptions) {
		this.#options = options;
	}

	get size(): number {
		return this.#byKey.size;
	}

	/** With one more user. */
	take(namespace: string, labels: Labels, ports: readonly NamedPort[]): Group {
		const key = `${namespace}\0${labels.join("\0")}\0\0${portsText(ports)}`;
		let group = this.#byKey.get(key);
		if (group === undefined) {
			group = {
				...{ key, namespace, labels, ports, atoms: NO_ATOMS, first: -1, users: 0 },
				classes: undefined,
			};
			group.atoms = this.#evaluate(group);
			this.#byKey.set(key, group);
			let groups = this.#byNamespace.get(namespace);
			if (groups === undefined) {
				groups = new Set();
				this.#byNamespace.set(namespace, groups);
			}
			groups.add(group);
		}
		group.users++;
		return group;
	}

	release(group: Group): void {
		if (--group.users > 0) return;
		this.#byKey.delete(group.key);
		const groups = this.#byNamespace.get(group.namespace)!;
		groups.delete(group);
		if (groups.size > 0) return;
		this.#byNamespace.delete(group.namespace);
		this.#selecting.delete(group.namespace);
	}

	/** These selectors and names of ports are in force from now on. */
	*add(atoms: readonly PodsAtom[], names: readonly string[]): Steps<void> {
		for (const atom of atoms) this.#enter(atom);
		const fresh = names.filter((name) => !this.#names.has(name));
		for (const name of fresh) this.#names.add(name);
		let looked = 0;
		if (atoms.length > TRIED_ALONE || fresh.length > 0) {
			for (const group of this.#byKey.values()) {
				this.#renew(group);
				if (++looked % EVERY === 0) yield;
			}
			return;
		}
		for (const { id, namespace, namespaces, pods } of atoms) {
			const affected =
				namespace !== undefined
					? [namespace]
					: [...this.#byNamespace.keys()].filter((name) =>
							matches(namespaces, this.#options.labelsOf(name)),
						);
			yield;
			for (const name of affected)
				for (const group of this.#byNamespace.get(name) ?? []) {
					if (matches(pods, group.labels)) this.#set(group, union(group.atoms, [id]));
					if (++looked % EVERY === 0) yield;
				}
		}
	}

	/** Its labels may be others now. */
	*renewNamespace(namespace: string): Steps<void> {
		this.#selecting.delete(namespace);
		let looked = 0;
		for (const group of this.#byNamespace.get(namespace) ?? []) {
			this.#renew(group);
			if (++looked % EVERY === 0) yield;
		}
	}

	/** Begins anew with these selectors and names. Every group's classes are forgotten. */
	*restart(atoms: Iterable<PodsAtom>, names: Iterable<string>): Steps<void> {
		this.#own = new Map();
		this.#selections = new Map();
		this.#selectionIndex = new SelectorIndex();
		this.#selecting.clear();
		this.#names = new Set(names);
		for (const atom of atoms) this.#enter(atom);
		let looked = 0;
		for (const group of this.#byKey.values()) {
			group.atoms = this.#evaluate(group);
			group.classes = undefined;
			this.#options.onChange(group);
			if (++looked % EVERY === 0) yield;
		}
	}

	#enter({ id, namespace, namespaces, pods }: PodsAtom): void {
		if (namespace !== undefined) {
			let index = this.#own.get(namespace);
			if (index === undefined) {
				index = new SelectorIndex();
				this.#own.set(namespace, index);
			}
			index.add(pods, id);
			return;
		}
		const text = selectorText(namespaces);
		let selection = this.#selections.get(text);
		if (selection === undefined) {
			selection = { namespaces, pods: new SelectorIndex() };
			this.#selections.set(text, selection);
			this.#selectionIndex.add(namespaces, selection);
			this.#selecting.clear();
		}
		selection.pods.add(pods, id);
	}

	#renew(group: Group): void {
		const atoms = this.#evaluate(group);
		const same =
			atoms.length === group.atoms.length && atoms.every((id, i) => id === group.atoms[i]);
		if (!same) this.#set(group, atoms);
	}

	#set(group: Group, atoms: readonly number[]): void {
		group.atoms = atoms;
		group.classes = undefined;
		this.#options.onChange(group);
	}

	#evaluate({ namespace, labels, ports }: Group): readonly number[] {
		const atoms = new Set<number>(this.#own.get(namespace)?.matching(labels) ?? []);
		let selections = this.#selecting.get(namespace);
		if (selections === undefined) {
			selections = [...this.#selectionIndex.matching(this.#options.labelsOf(namespace))];
			this.#selecting.set(namespace, selections);
		}
		for (const { pods } of selections) for (const id of pods.matching(labels)) atoms.add(id);
		for (const { name, protocol, port } of ports) {
			const number = PROTOCOLS.get(protocol);
			if (number === undefined || !this.#names.has(name)) continue;
			atoms.add(this.#options.portAtom({ kind: "port", name, protocol: number, port }));
		}
		return atoms.size === 0 ? NO_ATOMS : [...atoms].sort((a, b) => a - b);
	}
}

const NO_ATOMS: readonly number[] = [];

function portsText(ports: readonly NamedPort[]): string {
	return ports.length === 0
		? ""
		: ports.map(({ name, port, protocol }) => `${name}/${protocol}/${port}`).join();
}
