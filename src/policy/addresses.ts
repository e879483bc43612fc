/**
 * What addresses are to the policies in force: whose they are, the class of each, and the prefixes of blocks.
 *
 *  1. Nodes, Pods and local Pods claim addresses (owners.ts); Pods that are alike are groups (groups.ts)
 *  2. atoms that come into force are tried on groups, prefixes and Nodes
 *  3. addresses that may mean something else get their class; what that changes for flows raises epochs
 */
import { type Labels, NO_LABELS } from "../cluster/labels.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import { matches } from "../cluster/selector.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import { familyOf, parseAddress } from "../tables/address.js";
import { containsAddress, type Prefix, parsePrefix } from "../tables/prefix.js";
import { type NumberedAtom, union } from "./atoms.js";
import { type BlockEntry, Blocks, type Cover } from "./blocks.js";
import { type Group, Groups } from "./groups.js";
import { HeldAddresses } from "./held_addresses.js";
import type { InForce } from "./in_force.js";
import { CLUSTER } from "./limits.js";
import {
	bytesOf,
	type Claim,
	distinct,
	isAnother,
	type NodeOwner,
	nodeOwner,
	type Owner,
	Owners,
	type PodOwner,
	podOwner,
} from "./owners.js";
import {
	CLASS_OVERFLOW,
	type HeldPolicyTables,
	type PolicyChanges,
	type WriteTable,
} from "./policy_tables.js";
import { keyOf, type Subject } from "./subjects.js";

export interface AddressesOptions {
	inForce: InForce;
	nodeName: string;
	unknownPods: "closed" | "unlabelled";
	/** Of a Namespace. */
	labelsOf: (namespace: string) => Labels;
	write: WriteTable;
	held?: HeldPolicyTables | undefined;
}

interface Move {
	address: string;
	former: Owner | undefined;
	owner: Owner | undefined;
	before: number;
	now: number;
}

export class Addresses {
	readonly #options: AddressesOptions;
	readonly #inForce: InForce;
	readonly #write: WriteTable;
	readonly #groups: Groups;
	readonly #owners = new Owners();
	#blocks = new Blocks();
	readonly #pods = new Map<string, PodOwner>();
	readonly #nodes = new Map<string, NodeOwner>();
	readonly #local = new Map<string, PodOwner>();
	/** Addresses with a class of their own. */
	#identities = 0;
	/** As they are written. */
	readonly #prefixes = new Map<string, number>();
	#coverClasses = new Map<number, number>();
	#nodeSelectors: Extract<NumberedAtom, { kind: "nodes" }>[] = [];
	readonly #changedBlocks = new Set<BlockEntry>();
	/** Their Pods' classes are others now. */
	readonly #changedGroups = new Set<Group>();
	/** There was no room for their classes. */
	#overflowed = new Map<Claim, string>();
	readonly #overflowedBlocks = new Map<BlockEntry, string>();
	/** Until the first round is done. */
	#held: HeldAddresses | undefined;
	/** Prefixes that only an earlier agent had, until the round after. */
	#left: string[] = [];
	#restarted = false;
	/** Addresses that have another class or owner than in the round before. */
	#moves: Move[] = [];
	/** Flows of an earlier agent may be there: all of them look again. */
	#isFirst = true;
	/** Of whoever is not known: nothing selects it. */
	readonly #nobody: Group = {
		...{
			key: "",
			namespace: "",
			labels: [],
			ports: [],
			atoms: [],
			members: new Set(),
			users: 0,
		},
		classes: new Map(),
	};

	constructor(options: AddressesOptions) {
		this.#options = options;
		this.#inForce = options.inForce;
		this.#write = options.write;
		if (options.held !== undefined) this.#held = new HeldAddresses(options.held);
		this.#groups = new Groups({
			labelsOf: options.labelsOf,
			portAtom: (atom) => this.#inForce.numberOf(atom, CLUSTER),
			onChange: (group) => this.#changedGroups.add(group),
		});
	}

	/** Something of an earlier agent is still there. */
	get hasLeft(): boolean {
		return this.#left.length > 0 || this.#owners.dirty.length > 0;
	}

	/** Entries of the tables. */
	get usage(): { identities: number; blocks: number } {
		return { identities: this.#identities, blocks: this.#prefixes.size };
	}

	get prefixCount(): number {
		return this.#blocks.size;
	}

	/** Its labels may be others now. */
	*renewNamespace(name: string): Steps<void> {
		yield* this.#groups.renewNamespace(name);
	}

	setNode(name: string, node: NodeObject | undefined): void {
		const before = this.#nodes.get(name);
		if (before !== undefined) this.#owners.remove(before);
		this.#nodes.delete(name);
		if (node === undefined) return;
		const owner = nodeOwner(node);
		this.#nodes.set(name, owner);
		this.#owners.add(owner);
	}

	setPod(key: string, pod: PodObject | undefined): void {
		const before = this.#pods.get(key);
		const has = pod !== undefined && !pod.hostNetwork && !pod.ended && pod.addresses.length > 0;
		const now = has
			? podOwner(key, pod, this.#groups.take(pod.namespace, pod.labels, pod.ports))
			: undefined;
		const stays = this.#replace(before, now);
		if (stays === undefined) this.#pods.delete(key);
		else this.#pods.set(key, stays);
	}

	/** As the CNI has it: whatever its object says, and before its object says anything. */
	setLocal(subject: Subject, isThere: boolean): void {
		const { endpoint, pod, labels, ports } = subject;
		const before = this.#local.get(endpoint.id);
		if (!isThere) {
			this.#replace(before, undefined);
			this.#local.delete(endpoint.id);
			return;
		}
		const isUnknown = pod === undefined && this.#options.unknownPods === "closed";
		const isNobody = isUnknown || pod?.ended === true || pod?.hostNetwork === true;
		const group = isNobody ? this.#nobody : this.#groups.take(endpoint.namespace, labels, ports);
		const now: PodOwner = {
			...{ kind: "pod", key: keyOf(endpoint), uid: endpoint.uid ?? pod?.uid ?? endpoint.id },
			...{ node: this.#options.nodeName, group, created: Number.POSITIVE_INFINITY },
			addresses: distinct(endpoint.addresses),
		};
		this.#local.set(endpoint.id, this.#replace(before, now)!);
	}

	/** Returns the one that stays: the former, where they are alike. */
	#replace(before: PodOwner | undefined, now: PodOwner | undefined): PodOwner | undefined {
		const isSame =
			before !== undefined &&
			now !== undefined &&
			before.group === now.group &&
			before.uid === now.uid &&
			before.node === now.node &&
			before.created === now.created &&
			before.addresses.join() === now.addresses.join();
		if (!isSame) {
			if (before !== undefined) this.#owners.remove(before);
			if (now !== undefined) this.#owners.add(now);
		}
		if (before !== undefined && before.group !== this.#nobody) this.#groups.release(before.group);
		return isSame ? before : now;
	}
	// ------------------------------------------------------------ atoms

	*takeNew(): Steps<void> {
		const { atoms, names } = this.#inForce.takeNew();
		const pods = atoms.filter((atom) => atom.kind === "pods");
		const blocks = atoms.filter((atom) => atom.kind === "block");
		yield* this.#groups.add(pods, names);
		if (blocks.length > 0) {
			const { changed, within } = yield* this.#blocks.add(blocks);
			for (const entry of changed) this.#changedBlocks.add(entry);
			yield* this.#owners.touchWithin(within);
		}
		const nodes = atoms.filter((atom) => atom.kind === "nodes");
		this.#nodeSelectors.push(...nodes);
		if (nodes.length > 0)
			for (const { addresses } of this.#nodes.values())
				for (const address of addresses) this.#owners.touch(this.#owners.claim(address));
	}

	/** Makes all classes anew, of the atoms that are used. Policies stay. */
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
		this.#coverClasses = new Map();
		const all = [...atoms.all()];
		yield;
		yield* this.#groups.restart(
			all.filter((atom) => atom.kind === "pods"),
			names,
		);
		this.#nodeSelectors = all.filter((atom) => atom.kind === "nodes");
		this.#blocks = new Blocks();
		this.#changedBlocks.clear();
		yield* this.#blocks.add(all.filter((atom) => atom.kind === "block"));
		const kept = new Set(this.#blocks.entries().map(({ prefix }) => prefix.text));
		for (const text of this.#prefixes.keys()) {
			yield;
			if (kept.has(text)) continue;
			this.#prefixes.delete(text);
			this.#write(4, "blocks", text, undefined);
		}
		for (const entry of this.#blocks.entries()) this.#changedBlocks.add(entry);
		this.#changedGroups.clear();
		this.#overflowed.clear();
		this.#overflowedBlocks.clear();
		yield* this.#owners.touchAll();
		this.#restarted = true;
	}

	// ------------------------------------------------------------ classes

	/** Finds the class of every address and prefix that may have another one. */
	*classify(): Steps<void> {
		for (const text of this.#left) {
			if (this.#blocks.has(parsePrefix(text))) continue;
			this.#prefixes.delete(text);
			this.#write(4, "blocks", text, undefined);
		}
		this.#left = [];
		yield* this.#tryAgain();
		for (const group of this.#changedGroups)
			for (const { addresses } of group.members) {
				for (const address of addresses) this.#owners.touch(this.#owners.claim(address));
				yield;
			}
		this.#changedGroups.clear();
		for (const entry of this.#changedBlocks) {
			const number = yield* this.#setPrefix(entry.prefix, entry.cover);
			if (number === CLASS_OVERFLOW) this.#overflowedBlocks.set(entry, this.#inForce.overflow);
			yield;
		}
		this.#changedBlocks.clear();
		const left = yield* this.#takeHeld();
		for (const claim of this.#owners.dirty) {
			yield;
			const { address, former, owner } = claim;
			// What covers one of a Node's addresses means all of them. The loop reaches those that are added.
			if (owner?.kind === "node")
				for (const other of owner.addresses) this.#owners.touch(this.#owners.claim(other));
			const cover = this.#coverOf(claim);
			const before = claim.number;
			let now = this.#knownClass(owner, cover);
			if (now === null) now = yield* this.#classOf(address, owner, cover);
			if (now === undefined && left.has(claim))
				now = yield* this.#heldNumber(cover, cover, cover.atoms, CLUSTER, address);
			if (now === CLASS_OVERFLOW) this.#overflowed.set(claim, this.#inForce.overflow);
			else if (before === CLASS_OVERFLOW) this.#overflowed.delete(claim);
			const isSame = before === now;
			if (!isSame) {
				this.#identities += Number(now !== undefined) - Number(before !== undefined);
				claim.number = now;
				if (now === undefined || this.#held?.identities.get(address) !== now)
					this.#write(4, "identities", address, now);
			}
			if (this.#isFirst || (isSame && !isAnother(former, owner))) continue;
			const plain = this.#coverClasses.get(cover.id) ?? (yield* this.#coverClass(cover));
			this.#moves.push({ address, former, owner, before: before ?? plain, now: now ?? plain });
		}
		yield* this.#owners.endRound();
		if (this.#held !== undefined) {
			this.#held = undefined;
			this.#inForce.forgetHeld();
			for (const claim of left) this.#owners.touch(claim);
		}
		const { problems } = this.#inForce;
		for (const whys of [this.#overflowed, this.#overflowedBlocks])
			for (const why of whys.values()) problems.add(why);
		const { identities } = this.#inForce.limits;
		if (this.#identities > identities)
			problems.add(
				`Cannot write all addresses: expected at most ${identities}, got ${this.#identities}`,
			);
	}

	/** Which flows look again. @param route all of them do, since policies of local Pods have changed */
	*epochs(route: boolean): Steps<PolicyChanges["epochs"]> {
		const moves = this.#moves;
		this.#moves = [];
		const restarted = this.#restarted;
		this.#restarted = false;
		const peers = new Set<string>();
		const isFirst = this.#isFirst;
		this.#isFirst = false;
		if (route || isFirst) return { route: true, peers };
		const differences = new Map<string, boolean>();
		const differ = (a: number, b: number, fresh: boolean): boolean => {
			if (a === b) return false;
			const key = `${a} ${b} ${fresh}`;
			let is = differences.get(key);
			if (is === undefined) {
				is = this.#inForce.differ(a, b, fresh);
				differences.set(key, is);
			}
			return is;
		};
		for (const { address, former, owner, before, now } of moves) {
			yield;
			const isOther =
				isAnother(former, owner) || (!restarted && differ(before, now, former === undefined));
			if (!isOther) continue;
			const node = owner?.node ?? former?.node ?? "";
			// The whole epoch covers all others, and a flow with another address of a Node's has none of a peer.
			const known = node === this.#options.nodeName ? undefined : this.#nodes.get(node);
			if (known === undefined || !isOfPods(known, address))
				return { route: true, peers: new Set() };
			peers.add(node);
		}
		return { route: false, peers };
	}

	/** Those that had no room, when something has gone. */
	*#tryAgain(): Steps<void> {
		if (!this.#inForce.hasRoom) return;
		this.#inForce.hasRoom = false;
		for (const entry of this.#overflowedBlocks.keys()) this.#changedBlocks.add(entry);
		this.#overflowedBlocks.clear();
		const overflowed = this.#overflowed;
		this.#overflowed = new Map();
		for (const claim of overflowed.keys()) {
			this.#owners.touch(claim);
			yield;
		}
	}

	*#setPrefix(prefix: Prefix, cover: Cover): Steps<number> {
		const { text } = prefix;
		const held = this.#held;
		const number =
			held === undefined
				? yield* this.#coverClass(cover)
				: yield* held.number(cover, cover, held.classOf(prefix), (before) =>
						this.#inForce.classOf(cover.atoms, CLUSTER, before),
					);
		if (this.#prefixes.get(text) === number) return number;
		this.#prefixes.set(text, number);
		if (held?.blocks.get(text) !== number) this.#write(4, "blocks", text, number);
		return number;
	}

	/**
	 * What an earlier agent had of addresses and prefixes stays for the first round, meaning to its policies what
	 * it did and to the new ones what is true. Returns those addresses.
	 */
	*#takeHeld(): Steps<ReadonlySet<Claim>> {
		if (this.#held === undefined) return new Set();
		for (const prefix of this.#held.prefixes()) {
			if (!this.#blocks.has(prefix)) {
				yield* this.#setPrefix(prefix, this.#blocks.coverOf(prefix));
				this.#left.push(prefix.text);
			}
			yield;
		}
		const claims = new Set<Claim>();
		for (const address of this.#held.identities.keys()) {
			const claim = this.#owners.claim(address);
			claims.add(claim);
			this.#owners.touch(claim);
			yield;
		}
		return claims;
	}

	/** Of the first round beside an earlier agent's tables. */
	*#heldNumber(
		of: object,
		cover: Cover,
		atoms: readonly number[],
		namespace: string,
		address: string,
	): Steps<number> {
		const held = this.#held!;
		return yield* held.number(of, cover, held.classAt(address), (before) =>
			this.#inForce.classOf(atoms, namespace, before),
		);
	}

	/** Most buckets lie within one prefix. */
	#coverOf({ address, bucket }: Claim): Cover {
		const { version } = this.#blocks;
		if (bucket.version !== version) {
			bucket.version = version;
			bucket.cover = this.#blocks.coverWithin(bucket.prefix) ?? null;
		}
		return bucket.cover ?? this.#blocks.coverAt(bytesOf(address));
	}

	/** Undefined: that of its prefix. null: `#classOf` says it. */
	#knownClass(owner: Owner | undefined, cover: Cover): number | undefined | null {
		if (owner === undefined) return undefined;
		if (owner.kind === "node") return null;
		if (owner.group.atoms.length === 0) return undefined;
		return this.#held === undefined ? (owner.group.classes.get(cover.id) ?? null) : null;
	}

	/** Undefined: that of its prefix. */
	*#classOf(address: string, owner: Owner | undefined, cover: Cover): Steps<number | undefined> {
		if (owner === undefined) return undefined;
		if (owner.kind === "node") {
			const atoms = this.#nodeAtoms(owner, address, cover);
			if (atoms.join() === cover.atoms.join()) return undefined;
			return yield* this.#inForce.classOf(atoms, CLUSTER, this.#held?.classAt(address));
		}
		const { group } = owner;
		const atoms = union(group.atoms, cover.atoms);
		if (this.#held !== undefined)
			return yield* this.#heldNumber(group, cover, atoms, group.namespace, address);
		const number = yield* this.#inForce.classOf(atoms, group.namespace);
		if (number !== CLASS_OVERFLOW) group.classes.set(cover.id, number);
		return number;
	}

	/**
	 * A block with any of a Node's addresses means the Node: its InternalIPs decide where the block's prefix has
	 * any, and an except of one of them excepts the Node; else its gateway does.
	 */
	#nodeAtoms({ object, gateways }: NodeOwner, address: string, cover: Cover): readonly number[] {
		const same = (one: string) => familyOf(one) === familyOf(address);
		const atoms = new Set<number>();
		const within = new Set<number>();
		const excepted = new Set<number>();
		for (const one of object.internalIPs.filter(same)) {
			const bytes = parseAddress(one)!;
			const held = new Set(this.#blocks.coverAt(bytes).atoms);
			for (const atom of this.#blocks.over(bytes)) {
				within.add(atom);
				if (!held.has(atom)) excepted.add(atom);
			}
		}
		for (const atom of within) if (!excepted.has(atom)) atoms.add(atom);
		for (const one of gateways.filter(same))
			for (const atom of this.#blocks.coverAt(parseAddress(one)!).atoms)
				if (!within.has(atom)) atoms.add(atom);
		if (object.externalIPs?.includes(address)) for (const atom of cover.atoms) atoms.add(atom);
		for (const atom of this.#nodeSelectors)
			if (matches(atom.nodes, object.labels ?? NO_LABELS)) atoms.add(atom.id);
		return [...atoms].sort((a, b) => a - b);
	}

	*#coverClass(cover: Cover): Steps<number> {
		const known = this.#coverClasses.get(cover.id);
		if (known !== undefined) return known;
		const number = yield* this.#inForce.classOf(cover.atoms, CLUSTER);
		if (number !== CLASS_OVERFLOW) this.#coverClasses.set(cover.id, number);
		return number;
	}
}

function isOfPods({ object }: NodeOwner, address: string): boolean {
	const bytes = parseAddress(address)!;
	return podPrefixes(object).some((prefix) => containsAddress(prefix, bytes));
}
