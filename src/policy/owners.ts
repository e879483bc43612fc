/**
 * The owner of each address: a Node, else the local Pod that the CNI gave it to, else the newest Pod with it in its
 * status. Pods in the host network and Pods that have ended own no address.
 *
 * Pods and addresses are numbers in columns (pod_rows.ts, claims.ts), as there may be a hundred thousand. An owner is
 * a number, too: a Pod's row doubled, or a Node's index doubled and one.
 */
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import { grown } from "../columns/grow.js";
import type { Steps } from "../loop/turns.js";
import { formatAddress } from "../tables/address.js";
import { firstAddress } from "../tables/prefix.js";
import { Claims, NONE } from "./claims.js";
import type { Group } from "./groups.js";
import { type Identity, identityOf, type PodRow, PodRows } from "./pod_rows.js";

export interface NodeOwner {
	identity: Identity;
	/** The number of its name. */
	node: number;
	object: NodeObject;
	gateways: readonly string[];
	/** The claims of its InternalIPs, gateways and ExternalIPs. */
	claims: readonly number[];
}

/** Touched addresses for which there is always room. */
const ROOM = 1024;
/** Addresses that are looked at between two steps. */
const EVERY = 64;

export class Owners {
	readonly claims = new Claims();
	readonly pods = new PodRows();
	readonly #nodes: (NodeOwner | undefined)[] = [];
	readonly #freeNodes: number[] = [];
	/** By name. */
	readonly #nodeIndexes = new Map<string, number>();
	/** All that claim an address, where they are several. */
	readonly #contested = new Map<number, readonly number[]>();
	/** Claims whose owner or class may change in this round. The list may grow during iteration. */
	#dirty: Int32Array = new Int32Array(ROOM);
	/** The former owner of each: both halves of its identity, and its Node or NONE. */
	#formers: Int32Array = new Int32Array(3 * ROOM);
	#dirtyCount = 0;

	// ------------------------------------------------------------ owners

	node(name: string): NodeOwner | undefined {
		const index = this.#nodeIndexes.get(name);
		return index === undefined ? undefined : this.#nodes[index];
	}

	*nodes(): Generator<NodeOwner, void> {
		for (const node of this.#nodes) if (node !== undefined) yield node;
	}

	setNode(name: string, object: NodeObject | undefined): void {
		const known = this.#nodeIndexes.get(name);
		if (known !== undefined) {
			const before = this.#nodes[known]!;
			this.#leave(nodeRef(known), before.claims);
			this.pods.releaseNode(before.node);
			this.#nodeIndexes.delete(name);
			this.#nodes[known] = undefined;
			this.#freeNodes.push(known);
		}
		if (object === undefined) return;
		const index = this.#freeNodes.pop() ?? this.#nodes.length;
		const gateways = podPrefixes(object).map((prefix) => formatAddress(firstAddress(prefix)));
		const { internalIPs, externalIPs = [] } = object;
		const addresses = new Set([...internalIPs, ...gateways, ...externalIPs]);
		const claims = [...addresses].map((address) => this.claims.claim(address));
		const identity = identityOf("node", name, object.uid ?? "");
		this.#nodes[index] = { identity, node: this.pods.takeNode(name), object, gateways, claims };
		this.#nodeIndexes.set(name, index);
		this.#enter(nodeRef(index), claims);
	}

	/**
	 * Returns the group that the Pod had before.
	 *
	 * @param name see PodRows
	 */
	setPod(name: string, pod: PodRow, addresses: readonly string[]): Group | undefined {
		const distinct = new Set(addresses);
		const known = this.pods.find(name);
		const before = known < 0 ? undefined : this.pods.group(known);
		if (known >= 0) {
			if (this.pods.is(known, pod) && this.#has(known, distinct)) return before;
			this.#leavePod(known);
		}
		const row = this.pods.set(name, pod);
		const claims = [...distinct].map((address) => this.claims.claim(address));
		this.pods.setClaims(row, claims);
		this.pods.enter(row);
		this.#enter(podRef(row), claims);
		return before;
	}

	/** The same. */
	removePod(name: string): Group | undefined {
		const row = this.pods.find(name);
		if (row < 0) return undefined;
		const before = this.pods.group(row);
		this.#leavePod(row);
		this.pods.remove(row);
		return before;
	}

	#leavePod(row: number): void {
		this.#leave(podRef(row), this.pods.claims(row));
		this.pods.leave(row);
	}

	#has(row: number, addresses: ReadonlySet<string>): boolean {
		const claims = this.pods.claims(row);
		if (claims.length !== addresses.size) return false;
		let i = 0;
		for (const address of addresses) if (this.claims.find(address) !== claims[i++]) return false;
		return true;
	}

	// ------------------------------------------------------------ whose an address is

	/** The group of the Pod that has it; undefined: no Pod does. */
	groupOf(claim: number): Group | undefined {
		const owner = this.claims.owner(claim);
		return owner === NONE || isNode(owner) ? undefined : this.pods.group(owner >> 1);
	}

	/** Undefined: it is no Node's own. */
	nodeAt(claim: number): NodeOwner | undefined {
		const owner = this.claims.owner(claim);
		return owner !== NONE && isNode(owner) ? this.#nodes[owner >> 1] : undefined;
	}

	#enter(owner: number, claims: readonly number[]): void {
		for (const claim of claims) {
			this.touch(claim);
			const present = this.claims.owner(claim);
			if (present === NONE) this.claims.setOwner(claim, owner);
			else {
				const all = [...(this.#contested.get(claim) ?? [present]), owner];
				this.#contested.set(claim, all);
				this.claims.setOwner(claim, this.#best(all));
			}
		}
	}

	#leave(owner: number, claims: readonly number[]): void {
		for (const claim of claims) {
			this.touch(claim);
			const rest = this.#contested.get(claim)?.filter((one) => one !== owner) ?? [];
			this.claims.setOwner(claim, rest.length === 0 ? NONE : this.#best(rest));
			if (rest.length > 1) this.#contested.set(claim, rest);
			else this.#contested.delete(claim);
		}
	}

	#best(owners: readonly number[]): number {
		return owners.reduce((a, b) => (this.#isBetter(a, b) ? a : b));
	}

	#isBetter(a: number, b: number): boolean {
		if (isNode(a) !== isNode(b)) return isNode(a);
		if (!isNode(a)) {
			const age = this.pods.created(b >> 1) - this.pods.created(a >> 1);
			if (age !== 0 && !Number.isNaN(age)) return age < 0;
		}
		return this.#key(a) <= this.#key(b);
	}

	#key(owner: number): string {
		return isNode(owner) ? this.#nodes[owner >> 1]!.object.name : this.pods.key(owner >> 1);
	}

	/** The owner's Node; NONE: no owner. */
	#nodeOf(owner: number): number {
		if (owner === NONE) return NONE;
		return isNode(owner) ? this.#nodes[owner >> 1]!.node : this.pods.node(owner >> 1);
	}

	#identity(owner: number, half: 0 | 1): number {
		return isNode(owner)
			? this.#nodes[owner >> 1]!.identity[half]
			: this.pods.identity(owner >> 1, half);
	}

	// ------------------------------------------------------------ what changed in this round

	get dirtyCount(): number {
		return this.#dirtyCount;
	}

	/** Claims by their index in this round. */
	dirty(index: number): number {
		return this.#dirty[index]!;
	}

	/** It had an owner before. */
	hadOwner(index: number): boolean {
		return this.#formers[3 * index + 2] !== NONE;
	}

	/** The address has another owner than before. */
	isAnother(index: number): boolean {
		const owner = this.claims.owner(this.#dirty[index]!);
		if (owner === NONE || !this.hadOwner(index)) return false;
		return (
			this.#formers[3 * index] !== this.#identity(owner, 0) ||
			this.#formers[3 * index + 1] !== this.#identity(owner, 1)
		);
	}

	/** The number of the present or former owner's Node; NONE: not known. */
	nodeNumber(index: number): number {
		const now = this.#nodeOf(this.claims.owner(this.#dirty[index]!));
		return now === NONE ? this.#formers[3 * index + 2]! : now;
	}

	/** Its owner or class may have changed. */
	touch(claim: number): void {
		if (this.claims.isTouched(claim)) return;
		this.claims.setTouched(claim, true);
		const index = this.#dirtyCount++;
		this.#dirty = grown(this.#dirty, index + 1);
		this.#formers = grown(this.#formers, 3 * (index + 1));
		this.#dirty[index] = claim;
		const owner = this.claims.owner(claim);
		this.#formers[3 * index + 2] = this.#nodeOf(owner);
		if (owner === NONE) return;
		this.#formers[3 * index] = this.#identity(owner, 0);
		this.#formers[3 * index + 1] = this.#identity(owner, 1);
	}

	*touchAll(): Steps<void> {
		for (const claim of this.claims.ids()) {
			this.touch(claim);
			if (claim % EVERY === 0) yield;
		}
	}

	/** Ends the round; forgets touched addresses that have no owner and no class in the tables. */
	*endRound(): Steps<void> {
		for (let index = 0; index < this.#dirtyCount; index++) {
			const claim = this.#dirty[index]!;
			this.claims.setTouched(claim, false);
			if (this.claims.owner(claim) === NONE && this.claims.class(claim) === NONE)
				this.claims.remove(claim);
			if (index % EVERY === 0) yield;
		}
		this.#dirtyCount = 0;
		if (this.#dirty.length > ROOM) {
			this.#dirty = new Int32Array(ROOM);
			this.#formers = new Int32Array(3 * ROOM);
		}
		this.pods.endRound();
	}
}

const podRef = (row: number) => 2 * row;
const nodeRef = (index: number) => 2 * index + 1;
const isNode = (owner: number) => (owner & 1) === 1;
