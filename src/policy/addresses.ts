/**
 * What addresses are to the policies in force: whose they are, the class of each, and the prefixes of blocks.
 *
 *  1. Nodes, Pods and local Pods claim addresses (owners.ts); Pods that are alike are groups (groups.ts)
 *  2. atoms that come into force are tried on groups, prefixes and Nodes
 *  3. addresses whose meaning may have changed get their class; changes that affect flows raise epochs
 */
import type { Labels } from "../cluster/labels.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { AddressIndex } from "../columns/address_index.js";
import { PAUSE } from "../columns/address_pages.js";
import type { Steps } from "../loop/turns.js";
import { type Prefix, parsePrefix } from "../tables/prefix.js";
import { type NumberedAtom, union } from "./atoms.js";
import type { Cover } from "./blocks.js";
import { NONE } from "./claims.js";
import { type Group, Groups } from "./groups.js";
import { HeldAddresses } from "./held_addresses.js";
import type { InForce } from "./in_force.js";
import { CLUSTER } from "./limits.js";
import { Moves } from "./moves.js";
import { nodeAtoms } from "./node_atoms.js";
import { Owners } from "./owners.js";
import { PodClaims } from "./pod_claims.js";
import {
	CLASS_OVERFLOW,
	type HeldPolicyTables,
	type PolicyChanges,
	type WriteTable,
} from "./policy_tables.js";
import { PrefixClasses } from "./prefix_classes.js";

export interface AddressesOptions {
	inForce: InForce;
	nodeName: string;
	unknownPods: "closed" | "unlabelled";
	/** The labels of a Namespace. */
	labelsOf: (namespace: string) => Labels;
	write: WriteTable;
	/** The class of an address, given by its number; undefined: that of its prefix. */
	writeIdentity: (addresses: AddressIndex, id: number, number: number | undefined) => void;
	held?: HeldPolicyTables | undefined;
}

/** Addresses that are looked at between two steps: some 0.05 ms. */
const EVERY = 64;
const NO_CLAIMS: ReadonlySet<number> = new Set();
const EVERYTHING = ["0.0.0.0/0", "::/0"].map(parsePrefix);

export class Addresses {
	/** The Pods that claim addresses. */
	readonly pods: PodClaims;
	readonly #options: AddressesOptions;
	readonly #inForce: InForce;
	readonly #groups: Groups;
	readonly #owners = new Owners();
	readonly #prefixes: PrefixClasses;
	/** Addresses with a class of their own. */
	#identities = 0;
	#nodeSelectors: Extract<NumberedAtom, { kind: "nodes" }>[] = [];
	/** Groups whose Pods' classes have changed. */
	readonly #changedGroups = new Set<Group>();
	/** Addresses whose class found no room. */
	#overflowed = new Map<number, string>();
	/** Until the first round is done. */
	#held: HeldAddresses | undefined;
	/** Addresses that an earlier agent had, for the round after. */
	#leftClaims: ReadonlySet<number> = NO_CLAIMS;
	readonly #moves: Moves;
	constructor(options: AddressesOptions) {
		this.#options = options;
		this.#inForce = options.inForce;
		this.#prefixes = new PrefixClasses(options);
		this.#moves = new Moves(this.#owners, this.#inForce, options.nodeName);
		if (options.held !== undefined) this.#held = new HeldAddresses(options.held);
		this.#groups = new Groups({
			labelsOf: options.labelsOf,
			portAtom: (atom) => this.#inForce.plans.numberOf(atom, CLUSTER),
			onChange: (group) => this.#changedGroups.add(group),
		});
		const { nodeName, unknownPods } = options;
		this.pods = new PodClaims({
			...{ owners: this.#owners, groups: this.#groups, nodeName, unknownPods },
		});
	}

	/** Something of an earlier agent is still there. */
	get hasLeft(): boolean {
		return this.#prefixes.hasLeft || this.#owners.dirtyCount > 0;
	}

	/** Entries of the tables. */
	get usage(): { identities: number; blocks: number } {
		return { identities: this.#identities, blocks: this.#prefixes.written };
	}

	/** What an earlier agent left, before the first round. */
	*readHeld(): Steps<void> {
		if (this.#held !== undefined) yield* this.#held.read();
	}

	/** Its labels may be others now. */
	*renewNamespace(name: string): Steps<void> {
		yield* this.#groups.renewNamespace(name);
	}

	setNode(name: string, node: NodeObject | undefined): void {
		this.#owners.setNode(name, node);
	}

	// ------------------------------------------------------------ atoms

	*takeNew(): Steps<void> {
		const { atoms, names } = this.#inForce.plans.takeNew();
		const pods = atoms.filter((atom) => atom.kind === "pods");
		const blocks = atoms.filter((atom) => atom.kind === "block");
		yield* this.#groups.add(pods, names);
		if (blocks.length > 0) yield* this.#coverAnew(yield* this.#prefixes.add(blocks));
		const nodes = atoms.filter((atom) => atom.kind === "nodes");
		this.#nodeSelectors.push(...nodes);
		if (nodes.length > 0)
			for (const { claims } of this.#owners.nodes())
				for (const claim of claims) this.#owners.touch(claim);
	}

	/** Blocks within these prefixes are others now: addresses that they cover otherwise may mean something else. */
	*#coverAnew(prefixes: readonly Prefix[]): Steps<void> {
		const { claims } = this.#owners;
		let cost = 0;
		for (const prefix of prefixes) cost += claims.pages.cost(prefix);
		// Among so many prefixes each address looks up its own.
		const asked = cost > 2 * claims.size ? EVERYTHING : prefixes;
		let looked = 0;
		for (const prefix of asked) {
			for (const claim of claims.pages.within(prefix)) {
				if (claim === PAUSE || ++looked % EVERY === 0) yield;
				if (claim === PAUSE) continue;
				const before = claims.cover(claim);
				if (before === NONE) continue;
				const now = this.#prefixes.blocks.coverAt(claims.bytes(claim)).id;
				if (now === before) continue;
				claims.setCover(claim, now);
				this.#owners.touch(claim);
			}
			yield;
		}
	}

	/** Gives all classes new numbers, with the used atoms only. Policies stay. */
	*restart(): Steps<void> {
		const used = new Set<number>();
		const names = new Set<string>();
		for (const { list } of this.#inForce.policies()) {
			for (const id of list.atoms) used.add(id);
			for (const name of list.names) names.add(name);
		}
		const { atoms } = this.#inForce;
		atoms.retain(({ id }) => used.has(id));
		yield* this.#inForce.restartClasses();
		const all = [...atoms.all()];
		yield;
		yield* this.#groups.restart(
			all.filter((atom) => atom.kind === "pods"),
			names,
		);
		this.#nodeSelectors = all.filter((atom) => atom.kind === "nodes");
		yield* this.#prefixes.restart(all.filter((atom) => atom.kind === "block"));
		this.#changedGroups.clear();
		this.#overflowed.clear();
		const { claims } = this.#owners;
		for (const claim of claims.ids()) {
			claims.setCover(claim, NONE);
			this.#owners.touch(claim);
			if (claim % EVERY === 0) yield;
		}
		this.#moves.restart();
	}

	// ------------------------------------------------------------ classes

	/** Finds the class of every address and prefix that may have another one. */
	*classify(): Steps<void> {
		this.#prefixes.removeLeft();
		yield* this.#tryAgain();
		let count = 0;
		for (const group of this.#changedGroups)
			for (const row of this.#owners.pods.members(group)) {
				for (const claim of this.#owners.pods.claims(row)) this.#owners.touch(claim);
				if (++count % EVERY === 0) yield;
			}
		this.#changedGroups.clear();
		yield* this.#prefixes.classify(this.#held);
		const left = yield* this.#takeHeld();
		// The loop reaches those that are added.
		for (let index = 0; index < this.#owners.dirtyCount; index++) {
			if (!this.#classifyKnown(index)) yield* this.#classifyOne(index, left);
			if (index % EVERY === 0) yield;
		}
		if (this.#held !== undefined) {
			this.#held = undefined;
			this.#inForce.forgetHeld();
			this.#leftClaims = left;
		}
		const { problems } = this.#inForce;
		for (const why of this.#overflowed.values()) problems.add(why);
		for (const why of this.#prefixes.problems()) problems.add(why);
		const { identities } = this.#inForce.limits;
		if (this.#identities > identities)
			problems.add(
				`Cannot write all addresses: expected at most ${identities}, got ${this.#identities}`,
			);
	}

	/** The short way of most addresses, whose group has a class where they are. False: it is to go the long way. */
	#classifyKnown(index: number): boolean {
		const { claims } = this.#owners;
		const claim = this.#owners.dirty(index);
		if (this.#held !== undefined || this.#owners.isAnother(index)) return false;
		const now = this.#owners.groupOf(claim)?.classes?.get(claims.cover(claim));
		const before = claims.class(claim);
		if (now === undefined || before === NONE || before === CLASS_OVERFLOW) return false;
		if (now === before) return true;
		claims.setClass(claim, now);
		this.#options.writeIdentity(claims, claim, now);
		if (!this.#moves.isFirst) this.#moves.add(index, before, now);
		return true;
	}

	*#classifyOne(index: number, left: ReadonlySet<number>): Steps<void> {
		const { claims } = this.#owners;
		const claim = this.#owners.dirty(index);
		const node = this.#owners.nodeAt(claim);
		// A cover of one of a Node's addresses counts for all of them.
		for (const other of node?.claims ?? []) this.#owners.touch(other);
		const cover = this.#coverOf(claim);
		const before = claims.class(claim);
		const group = this.#owners.groupOf(claim);
		let now: number | undefined;
		if (group !== undefined && group.atoms.length > 0) {
			const known = this.#held === undefined ? group.classes?.get(cover.id) : undefined;
			now = known ?? (yield* this.#classOf(claim, group, cover));
		} else if (node !== undefined) now = yield* this.#nodeClass(claim, cover);
		if (now === undefined && left.has(claim))
			now = yield* this.#heldNumber(cover, cover, cover.atoms, CLUSTER, claim);
		if (now === CLASS_OVERFLOW) this.#overflowed.set(claim, this.#inForce.overflow);
		else if (before === CLASS_OVERFLOW) this.#overflowed.delete(claim);
		const isSame = before === (now ?? NONE);
		if (!isSame) {
			this.#identities += Number(now !== undefined) - Number(before !== NONE);
			claims.setClass(claim, now ?? NONE);
			if (now === undefined || this.#held?.ownClassAt(claims.bytes(claim)) !== now)
				this.#options.writeIdentity(claims, claim, now);
		}
		if (this.#moves.isFirst || (isSame && !this.#owners.isAnother(index))) return;
		const plain = yield* this.#prefixes.classOf(cover);
		this.#moves.add(index, before === NONE ? plain : before, now ?? plain);
	}

	/** Which flows look again. @param route all of them do, since policies of local Pods have changed */
	*epochs(route: boolean): Steps<PolicyChanges["epochs"]> {
		const epochs = yield* this.#moves.epochs(route);
		yield* this.#owners.endRound();
		let looked = 0;
		for (const claim of this.#leftClaims) {
			if (this.#owners.claims.has(claim)) this.#owners.touch(claim);
			if (++looked % EVERY === 0) yield;
		}
		this.#leftClaims = NO_CLAIMS;
		return epochs;
	}

	/** Retries addresses and blocks without room, once there is some. */
	*#tryAgain(): Steps<void> {
		if (!this.#inForce.hasRoom) return;
		this.#inForce.hasRoom = false;
		this.#prefixes.tryAgain();
		const overflowed = this.#overflowed;
		this.#overflowed = new Map();
		for (const claim of overflowed.keys()) {
			this.#owners.touch(claim);
			if (claim % EVERY === 0) yield;
		}
	}

	/**
	 * The addresses and prefixes of an earlier agent stay for the first round, with their former meaning for its
	 * policies and their present meaning for the new ones. Returns those addresses.
	 */
	*#takeHeld(): Steps<ReadonlySet<number>> {
		if (this.#held === undefined) return new Set();
		yield* this.#prefixes.takeHeld(this.#held);
		const claims = new Set<number>();
		for (const bytes of this.#held.addresses()) {
			const claim = this.#owners.claims.claimAt(bytes);
			claims.add(claim);
			this.#owners.touch(claim);
			if (claims.size % EVERY === 0) yield;
		}
		return claims;
	}

	/** The class in the first round, while an earlier agent's tables are in force. */
	*#heldNumber(
		of: object,
		cover: Cover,
		atoms: readonly number[],
		namespace: string,
		claim: number,
	): Steps<number> {
		const held = this.#held!;
		const before = held.classAt(this.#owners.claims.bytes(claim));
		return yield* held.number(of, cover, before, (number) =>
			this.#inForce.classOf(atoms, namespace, number),
		);
	}

	#coverOf(claim: number): Cover {
		const { claims } = this.#owners;
		const known = claims.cover(claim);
		if (known !== NONE) return this.#prefixes.blocks.cover(known);
		const cover = this.#prefixes.blocks.coverAt(claims.bytes(claim));
		claims.setCover(claim, cover.id);
		return cover;
	}

	/** The class of a Pod's address, from the atoms that hold for it. */
	*#classOf(claim: number, group: Group, cover: Cover): Steps<number> {
		const atoms = union(group.atoms, cover.atoms);
		if (this.#held !== undefined)
			return yield* this.#heldNumber(group, cover, atoms, group.namespace, claim);
		const number = yield* this.#inForce.classOf(atoms, group.namespace);
		if (number === CLASS_OVERFLOW) return number;
		group.classes ??= new Map();
		group.classes.set(cover.id, number);
		return number;
	}

	/** The class of a Node's address; undefined: it has the class of its prefix. */
	*#nodeClass(claim: number, cover: Cover): Steps<number | undefined> {
		const { claims } = this.#owners;
		const node = this.#owners.nodeAt(claim)!;
		const atoms = nodeAtoms(
			node,
			claims.text(claim),
			cover,
			this.#prefixes.blocks,
			this.#nodeSelectors,
		);
		if (atoms.join() === cover.atoms.join()) return undefined;
		return yield* this.#inForce.classOf(atoms, CLUSTER, this.#held?.classAt(claims.bytes(claim)));
	}
}
