/**
 * The Pods that claim addresses, as columns: other Nodes' by their key, this Node's by their endpoint, which the CNI
 * attached. All other properties of a Pod are its group's.
 */
import { grown, mix } from "../columns/grow.js";
import { Pool } from "../columns/pool.js";
import { Texts } from "../columns/texts.js";
import type { Group } from "./groups.js";

/** The identity of a Pod or Node: two halves of a hash of kind, key and uid. */
export type Identity = readonly [number, number];

export interface PodRow {
	/** "namespace/name". */
	key: string;
	/** Tells Pods of the same name apart. */
	uid: string;
	/** "": not known. */
	node: string;
	/** The newest Pod wins; infinity for a local Pod. */
	created: number;
	group: Group;
}

const NONE = -1;

export class PodRows {
	/** The name of each row: the key, or NUL and the endpoint of a local Pod. */
	readonly #names = new Texts();
	/** Keys of rows whose name is not their key. */
	readonly #keys = new Map<number, string>();
	readonly #nodes = new Pool<string>();
	/** Nodes released in this round. */
	#released: number[] = [];
	#identities: Int32Array = new Int32Array(0);
	#created: Float64Array = new Float64Array(0);
	#nodeOf: Int32Array = new Int32Array(0);
	#groups: (Group | undefined)[] = [];
	/** The first two addresses of each Pod; `#moreClaims` has the rest. */
	#claims: Int32Array = new Int32Array(0);
	readonly #moreClaims = new Map<number, readonly number[]>();
	/** The others of its group. */
	#next: Int32Array = new Int32Array(0);
	#previous: Int32Array = new Int32Array(0);

	/** -1: it is not there. */
	find(name: string): number {
		return this.#names.find(name);
	}

	/** The number of a Node's name, with one more user. */
	takeNode(name: string): number {
		return this.#nodes.take(name, () => name);
	}

	/** It can be asked for until the round ends. */
	releaseNode(node: number): void {
		this.#released.push(node);
	}

	/** Adds a row or changes its identity; its claims and the group's members stay as they are. */
	set(name: string, { key, uid, node, created, group }: PodRow): number {
		const known = this.#names.find(name);
		if (known >= 0) this.releaseNode(this.#nodeOf[known]!);
		const row = known >= 0 ? known : this.#names.add(name);
		this.#grow(row + 1);
		if (known < 0) this.setClaims(row, []);
		if (name !== key) this.#keys.set(row, key);
		[this.#identities[2 * row], this.#identities[2 * row + 1]] = identityOf("pod", key, uid);
		this.#created[row] = created;
		this.#nodeOf[row] = this.takeNode(node);
		this.#groups[row] = group;
		return row;
	}

	/** Removes a row that is in no group and has no claims. */
	remove(row: number): void {
		this.releaseNode(this.#nodeOf[row]!);
		this.#keys.delete(row);
		this.#moreClaims.delete(row);
		this.#groups[row] = undefined;
		this.#names.remove(row);
	}

	/** Frees the Nodes released in this round. */
	endRound(): void {
		for (const node of this.#released) this.#nodes.release(node);
		this.#released = [];
	}

	is(row: number, { key, uid, node, created, group }: PodRow): boolean {
		const [a, b] = identityOf("pod", key, uid);
		return (
			this.#identities[2 * row] === a &&
			this.#identities[2 * row + 1] === b &&
			this.#created[row] === created &&
			this.group(row) === group &&
			this.nodeName(this.#nodeOf[row]!) === node
		);
	}

	key(row: number): string {
		return this.#keys.get(row) ?? this.#names.text(row);
	}

	group(row: number): Group {
		return this.#groups[row]!;
	}

	created(row: number): number {
		return this.#created[row]!;
	}

	/** One half of its identity. */
	identity(row: number, half: 0 | 1): number {
		return this.#identities[2 * row + half]!;
	}

	/** The number of its Node's name. */
	node(row: number): number {
		return this.#nodeOf[row]!;
	}

	nodeName(node: number): string {
		return this.#nodes.at(node);
	}

	// ------------------------------------------------------------ addresses

	claims(row: number): readonly number[] {
		const [first, second] = [this.#claims[2 * row]!, this.#claims[2 * row + 1]!];
		if (first === NONE) return [];
		if (second === NONE) return [first];
		return [first, second, ...(this.#moreClaims.get(row) ?? [])];
	}

	setClaims(row: number, [first = NONE, second = NONE, ...more]: readonly number[]): void {
		this.#claims[2 * row] = first;
		this.#claims[2 * row + 1] = second;
		if (more.length > 0) this.#moreClaims.set(row, more);
		else this.#moreClaims.delete(row);
	}

	// ------------------------------------------------------------ members of groups

	enter(row: number): void {
		const group = this.group(row);
		this.#previous[row] = NONE;
		this.#next[row] = group.first;
		if (group.first !== NONE) this.#previous[group.first] = row;
		group.first = row;
	}

	leave(row: number): void {
		const [previous, next] = [this.#previous[row]!, this.#next[row]!];
		if (previous === NONE) this.group(row).first = next;
		else this.#next[previous] = next;
		if (next !== NONE) this.#previous[next] = previous;
	}

	*members({ first }: Group): Generator<number, void> {
		for (let row = first; row !== NONE; row = this.#next[row]!) yield row;
	}

	#grow(length: number): void {
		this.#identities = grown(this.#identities, 2 * length);
		this.#created = grown(this.#created, length);
		this.#nodeOf = grown(this.#nodeOf, length);
		this.#claims = grown(this.#claims, 2 * length);
		this.#next = grown(this.#next, length);
		this.#previous = grown(this.#previous, length);
	}
}

export function identityOf(kind: "pod" | "node", key: string, uid: string): Identity {
	const text = `${kind} ${key} ${uid}`;
	let [a, b] = [0x811c9dc5, 0x9747b28c];
	for (let i = 0; i < text.length; i++) {
		const code = text.charCodeAt(i);
		a = Math.imul(a ^ code, 0x01000193);
		b = Math.imul(b ^ code, 0x5bd1e995);
		b ^= b >>> 15;
	}
	return [mix(a) | 0, mix(b) | 0];
}
