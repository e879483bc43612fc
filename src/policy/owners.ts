/**
 * Whose an address is: a Node's, else a local Pod's as the CNI gave it, else the newest Pod's that says so.
 * Pods on the Node's network and those that have ended have none.
 */

import { podPrefixes } from "../cluster/node_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import { formatAddress, parseAddress, writeAddress } from "../tables/address.js";
import {
	containsAddress,
	firstAddress,
	makePrefix,
	type Prefix,
	PrefixTable,
} from "../tables/prefix.js";
import type { Cover } from "./blocks.js";
import type { Group } from "./groups.js";

export interface PodOwner {
	kind: "pod";
	key: string;
	/** Who it is, beyond its name. */
	uid: string;
	/** "": not known. */
	node: string;
	addresses: readonly string[];
	/** Later comes first; of a local Pod infinity. */
	created: number;
	group: Group;
}

export interface NodeOwner {
	kind: "node";
	key: string;
	uid: string;
	node: string;
	addresses: readonly string[];
	object: NodeObject;
	gateways: readonly string[];
}

export type Owner = PodOwner | NodeOwner;

/** An address that somebody claims, or did until this round. */
export class Claim {
	readonly address: string;
	readonly bucket: Bucket;
	owner: Owner | undefined = undefined;
	/** All that claim it, where they are several. */
	all: readonly Owner[] | undefined = undefined;
	/** Its class as it is written; NONE: that of its prefix. */
	class: number = NONE;
	/** The last round in which it was touched, and who had it before. */
	round = 0;
	former: Owner | undefined = undefined;

	constructor(address: string, bucket: Bucket) {
		this.address = address;
		this.bucket = bucket;
	}

	get number(): number | undefined {
		return this.class === NONE ? undefined : this.class;
	}

	set number(number: number | undefined) {
		this.class = number ?? NONE;
	}
}

const NONE = -1;

/** Addresses that are near each other, so that a changed block finds those within it. */
export interface Bucket {
	readonly prefix: Prefix;
	readonly claims: Claim[];
	/** Of all of them, in this version of the blocks; null: they differ. */
	cover: Cover | null;
	version: number;
}

export class Owners {
	readonly #claims = new Map<string, Claim>();
	readonly #buckets = new Map<string, Bucket>();
	/** The same. */
	readonly #bucketTable = new PrefixTable<Bucket>();
	/** Addresses that may mean something else in this round. It may grow while it is gone through. */
	#dirty: Claim[] = [];
	#round = 1;

	get size(): number {
		return this.#claims.size;
	}

	get dirty(): readonly Claim[] {
		return this.#dirty;
	}

	at(address: string): Claim | undefined {
		return this.#claims.get(address);
	}

	add(owner: Owner): void {
		for (const address of owner.addresses) {
			const claim = this.claim(address);
			this.touch(claim);
			if (claim.owner === undefined) claim.owner = owner;
			else {
				claim.all = [...(claim.all ?? [claim.owner]), owner];
				claim.owner = claim.all.reduce(better);
			}
		}
		if (owner.kind === "pod") owner.group.members.add(owner);
	}

	remove(owner: Owner): void {
		for (const address of owner.addresses) {
			const claim = this.#claims.get(address)!;
			this.touch(claim);
			const rest = claim.all?.filter((one) => one !== owner) ?? [];
			claim.owner = rest.length === 0 ? undefined : rest.reduce(better);
			claim.all = rest.length > 1 ? rest : undefined;
		}
		if (owner.kind === "pod") owner.group.members.delete(owner);
	}

	/** Of an address, which nobody may have. */
	claim(address: string): Claim {
		let claim = this.#claims.get(address);
		if (claim === undefined) {
			const bucket = this.#bucketOf(address);
			claim = new Claim(address, bucket);
			this.#claims.set(address, claim);
			bucket.claims.push(claim);
		}
		return claim;
	}

	/** It may mean something else. */
	touch(claim: Claim): void {
		if (claim.round === this.#round) return;
		claim.round = this.#round;
		claim.former = claim.owner;
		this.#dirty.push(claim);
	}

	/** Every address within one of these prefixes, which do not overlap. */
	*touchWithin(prefixes: readonly Prefix[]): Steps<void> {
		for (const prefix of prefixes) {
			const around = this.#bucketTable.longest(prefix);
			if (around !== undefined && around.prefix.length < prefix.length)
				for (const claim of around.claims) {
					if (containsAddress(prefix, bytesOf(claim.address))) this.touch(claim);
					yield;
				}
			else
				for (const { claims } of this.#bucketTable.within(prefix)) {
					for (const claim of claims) this.touch(claim);
					yield;
				}
		}
	}

	*touchAll(): Steps<void> {
		for (const claim of this.#claims.values()) {
			this.touch(claim);
			yield;
		}
	}

	/** All that was touched has been looked at. Forgets what nobody has and nothing is written of. */
	*endRound(): Steps<void> {
		const dirty = this.#dirty;
		this.#dirty = [];
		this.#round++;
		for (const claim of dirty) {
			claim.former = undefined;
			if (claim.owner === undefined && claim.number === undefined) this.#forget(claim);
			yield;
		}
	}

	#bucketOf(address: string): Bucket {
		const key = bucketKey(address);
		let bucket = this.#buckets.get(key);
		if (bucket === undefined) {
			const prefix = makePrefix(parseAddress(address)!, address.includes(":") ? 64 : 24);
			bucket = { prefix, claims: [], cover: null, version: 0 };
			this.#buckets.set(key, bucket);
			this.#bucketTable.set(bucket.prefix, bucket);
		}
		return bucket;
	}

	#forget(claim: Claim): void {
		if (!this.#claims.delete(claim.address)) return;
		const { claims, prefix } = claim.bucket;
		const last = claims.pop()!;
		if (last !== claim) claims[claims.indexOf(claim)] = last;
		if (claims.length > 0) return;
		this.#buckets.delete(bucketKey(claim.address));
		this.#bucketTable.delete(prefix);
	}
}

const SCRATCH = Buffer.alloc(16);

/** Valid until the next call. */
export function bytesOf(address: string): Uint8Array {
	writeAddress(SCRATCH, 0, address);
	return SCRATCH;
}

function bucketKey(address: string): string {
	if (!address.includes(":")) return address.slice(0, address.lastIndexOf("."));
	bytesOf(address);
	return SCRATCH.toString("latin1", 0, 8);
}

function better(a: Owner, b: Owner): Owner {
	if (a.kind !== b.kind) return a.kind === "node" ? a : b;
	const age = a.kind === "pod" && b.kind === "pod" ? b.created - a.created : 0;
	if (age !== 0 && !Number.isNaN(age)) return age < 0 ? a : b;
	return a.key <= b.key ? a : b;
}

export function nodeOwner(object: NodeObject): NodeOwner {
	const gateways = podPrefixes(object).map((prefix) => formatAddress(firstAddress(prefix)));
	const { name, internalIPs, externalIPs = [] } = object;
	const addresses = [...new Set([...internalIPs, ...gateways, ...externalIPs])];
	return {
		kind: "node",
		key: name,
		uid: object.uid ?? "",
		node: name,
		addresses,
		object,
		gateways,
	};
}

export function podOwner(
	key: string,
	pod: PodObject,
	group: Group,
	addresses: readonly string[] = pod.addresses,
): PodOwner {
	const { uid = "", node, created = 0 } = pod;
	return { kind: "pod", key, uid, node, addresses: distinct(addresses), created, group };
}

/** The one that a cluster's view of the address was about is not the one that it is about now. */
export function isAnother(a: Owner | undefined, b: Owner | undefined): boolean {
	return (
		a !== undefined && b !== undefined && (a.kind !== b.kind || a.key !== b.key || a.uid !== b.uid)
	);
}

/** The same array where it has nothing twice. */
export function distinct(addresses: readonly string[]): readonly string[] {
	return addresses.length < 2 || new Set(addresses).size === addresses.length
		? addresses
		: [...new Set(addresses)];
}
