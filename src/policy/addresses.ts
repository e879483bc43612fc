/**
 * What addresses are to the policies in force: whose they are, the class of each, and the prefixes of blocks.
 *
 *  1. Nodes, Pods and local Pods claim addresses (owners.ts); Pods that are alike are groups (groups.ts)
 *  2. atoms that come into force are tried on groups, prefixes and Nodes
 *  3. addresses that may mean something else get their class; what that changes for flows raises epochs
 */
import { type Labels, NO_LABELS } from "../cluster/labels.js";
import type { PodObject } from "../cluster/pod_object.js";
import { matches } from "../cluster/selector.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import { familyOf, parseAddress, writeAddress } from "../tables/address.js";
import { type Prefix, parsePrefix } from "../tables/prefix.js";
import { type NumberedAtom, union } from "./atoms.js";
import { type BlockEntry, Blocks, type Cover } from "./blocks.js";
import { type Group, Groups } from "./groups.js";
import { HeldAddresses } from "./held_addresses.js";
import { type InForce, LIMITS } from "./in_force.js";
import {
	distinct,
	isAnother,
	type NodeOwner,
	nodeOwner,
	type Owner,
	Owners,
	type PodOwner,
	podOwner,
} from "./owners.js";
import type { HeldPolicyTables, WriteTable } from "./policy_tables.js";
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
	/** As they are written. */
	readonly #identities = new Map<string, number>();
	readonly #prefixes = new Map<string, number>();
	#coverClasses = new Map<number, number>();
	#nodeSelectors: Extract<NumberedAtom, { kind: "nodes" }>[] = [];
	readonly #changedBlocks = new Set<BlockEntry>();
	/** Until the first round is done. */
	#held: HeldAddresses | undefined;
	/** Prefixes that only an earlier agent had, until the round after. */
	#left: string[] = [];
	#restarted = false;
	/** Flows of an earlier agent may be there: all of them look again. */
	#isFirst = true;
	/** Of whoever is not known: nothing selects it. */
	readonly #nobody: Group = {
		...{ key: "", namespace: "", labels: [], ports: [], atoms: [], members: new Set(), users: 0 },
		classes: new Map(),
	};

	constructor(options: AddressesOptions) {
		this.#options = options;
		this.#inForce = options.inForce;
		this.#write = options.write;
		if (options.held !== undefined) this.#held = new HeldAddresses(options.held);
		this.#groups = new Groups({
			labelsOf: options.labelsOf,
			portAtom: this.#inForce.numberOf,
			onChange: ({ members }) => {
				for (const address of members) this.#owners.touch(address);
			},
		});
	}

	/** Something of an earlier agent is still there. */
	get hasLeft(): boolean {
		return this.#left.length > 0 || this.#owners.hasDirty;
	}

	get prefixCount(): number {
		return this.#blocks.size;
	}

	/** Its labels may be others now. */
	renewNamespace(name: string): void {
		this.#groups.renewNamespace(name);
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
				for (const address of addresses) this.#owners.touch(address);
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
		this.#inForce.restartClasses();
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
		for (const text of this.#prefixes.keys())
			if (!kept.has(text)) {
				this.#prefixes.delete(text);
				this.#write(4, "blocks", text, undefined);
			}
		for (const entry of this.#blocks.entries()) this.#changedBlocks.add(entry);
		this.#owners.touchAll();
		this.#restarted = true;
	}

	// ------------------------------------------------------------ classes

	/** Returns whether something of this Node has changed. */
	*classify(route: boolean, peers: Set<string>): Steps<boolean> {
		for (const text of this.#left) {
			if (this.#blocks.has(parsePrefix(text))) continue;
			this.#prefixes.delete(text);
			this.#write(4, "blocks", text, undefined);
		}
		this.#left = [];
		for (const { prefix, cover } of this.#changedBlocks) {
			this.#setPrefix(prefix, cover);
			yield;
		}
		this.#changedBlocks.clear();
		const leftAddresses = yield* this.#takeHeld();
		const dirty = this.#owners.take();
		for (const address of [...dirty.keys()]) {
			const owner = this.#owners.at(address);
			if (owner?.kind !== "node") continue;
			// What covers one of a Node's addresses means all of them.
			for (const other of owner.addresses) if (!dirty.has(other)) dirty.set(other, owner);
		}
		let isRoute = route || this.#isFirst;
		for (const [address, former] of dirty) {
			yield;
			const owner = this.#owners.at(address);
			const cover = this.#blocks.coverAt(bytesOf(address));
			const before = this.#identities.get(address);
			const now =
				this.#classOf(address, owner, cover) ??
				(leftAddresses.has(address) ? this.#number(cover, cover, cover.atoms, address) : undefined);
			if (before !== now) {
				if (now === undefined) this.#identities.delete(address);
				else this.#identities.set(address, now);
				if (now === undefined || this.#held?.identities.get(address) !== now)
					this.#write(4, "identities", address, now);
			}
			// The whole epoch has been raised: every flow looks again.
			if (isRoute) continue;
			const plain = this.#coverClass(cover);
			const fresh = former === undefined && !this.#restarted;
			const isOther =
				isAnother(former, owner) ||
				(!this.#restarted && this.#inForce.differ(before ?? plain, now ?? plain, fresh));
			if (!isOther) continue;
			const node = owner?.node ?? former?.node ?? "";
			if (node === this.#options.nodeName || !this.#nodes.has(node)) isRoute = true;
			else peers.add(node);
		}
		if (this.#held !== undefined) {
			this.#held = undefined;
			this.#inForce.forgetHeld();
			for (const address of leftAddresses) this.#owners.touch(address);
		}
		if (isRoute) peers.clear();
		this.#isFirst = false;
		this.#restarted = false;
		if (this.#identities.size > LIMITS.identities)
			this.#inForce.problems.add(
				`Cannot write all addresses: expected at most ${LIMITS.identities}, got ${this.#identities.size}`,
			);
		if (this.#blocks.size > LIMITS.prefixes)
			this.#inForce.problems.add(
				`Cannot write all prefixes of blocks: expected at most ${LIMITS.prefixes}, got ${this.#blocks.size}`,
			);
		return isRoute;
	}

	#setPrefix(prefix: Prefix, cover: Cover): void {
		const { text } = prefix;
		const number =
			this.#held?.number(cover, cover, this.#held.classOf(prefix), (held) =>
				this.#inForce.classOf(cover.atoms, held),
			) ?? this.#coverClass(cover);
		if (this.#prefixes.get(text) === number) return;
		this.#prefixes.set(text, number);
		if (this.#held?.blocks.get(text) !== number) this.#write(4, "blocks", text, number);
	}

	/**
	 * What an earlier agent had of addresses and prefixes stays for the first round, meaning to its policies what
	 * it did and to the new ones what is true. Returns the addresses.
	 */
	*#takeHeld(): Steps<ReadonlySet<string>> {
		if (this.#held === undefined) return new Set();
		for (const prefix of this.#held.prefixes()) {
			if (!this.#blocks.has(prefix)) {
				this.#setPrefix(prefix, this.#blocks.coverOf(prefix));
				this.#left.push(prefix.text);
			}
			yield;
		}
		const addresses = new Set<string>();
		for (const address of this.#held.identities.keys()) {
			addresses.add(address);
			this.#owners.touch(address);
			yield;
		}
		return addresses;
	}

	/** Of the first round beside an earlier agent's tables. */
	#number(of: object, cover: Cover, atoms: readonly number[], address: string): number | undefined {
		return this.#held?.number(of, cover, this.#held.classAt(address), (held) =>
			this.#inForce.classOf(atoms, held),
		);
	}

	/** Undefined: that of its prefix. */
	#classOf(address: string, owner: Owner | undefined, cover: Cover): number | undefined {
		if (owner === undefined) return undefined;
		if (owner.kind === "node") {
			const atoms = this.#nodeAtoms(owner, address, cover);
			if (atoms.join() === cover.atoms.join()) return undefined;
			return this.#inForce.classOf(atoms, this.#held?.classAt(address));
		}
		const { group } = owner;
		if (group.atoms.length === 0) return undefined;
		if (this.#held !== undefined)
			return this.#number(group, cover, union(group.atoms, cover.atoms), address);
		let number = group.classes.get(cover.id);
		if (number === undefined) {
			number = this.#inForce.classOf(union(group.atoms, cover.atoms));
			group.classes.set(cover.id, number);
		}
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

	#coverClass(cover: Cover): number {
		let number = this.#coverClasses.get(cover.id);
		if (number === undefined) {
			number = this.#inForce.classOf(cover.atoms);
			this.#coverClasses.set(cover.id, number);
		}
		return number;
	}
}

const SCRATCH = Buffer.alloc(16);

/** Valid until the next call. */
function bytesOf(address: string): Uint8Array {
	writeAddress(SCRATCH, 0, address);
	return SCRATCH;
}
