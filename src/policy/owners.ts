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

/** Addresses that are near each other, so that a changed block finds those within it. */
interface Bucket {
	prefix: Prefix;
	addresses: string[];
}

export class Owners {
	/** The owner, or all that claim it. */
	readonly #claims = new Map<string, Owner | Owner[]>();
	readonly #buckets = new Map<string, Bucket>();
	/** The same. */
	readonly #bucketTable = new PrefixTable<Bucket>();
	/** Addresses that may mean something else since `take`, with who had them before. */
	#dirty = new Map<string, Owner | undefined>();

	get size(): number {
		return this.#claims.size;
	}

	at(address: string): Owner | undefined {
		const claims = this.#claims.get(address);
		return Array.isArray(claims) ? claims.reduce(better) : claims;
	}

	add(owner: Owner): void {
		for (const address of owner.addresses) {
			this.touch(address);
			const claims = this.#claims.get(address);
			if (claims === undefined) {
				this.#claims.set(address, owner);
				this.#bucketOf(address).addresses.push(address);
			} else
				this.#claims.set(address, Array.isArray(claims) ? [...claims, owner] : [claims, owner]);
			if (owner.kind === "pod") owner.group.members.add(address);
		}
	}

	remove(owner: Owner): void {
		for (const address of owner.addresses) {
			this.touch(address);
			const claims = this.#claims.get(address);
			const rest = Array.isArray(claims) ? claims.filter((one) => one !== owner) : [];
			if (rest.length > 0) this.#claims.set(address, rest.length === 1 ? rest[0]! : rest);
			else {
				this.#claims.delete(address);
				this.#unbucket(address);
			}
			if (
				owner.kind === "pod" &&
				!rest.some((one) => one.kind === "pod" && one.group === owner.group)
			)
				owner.group.members.delete(address);
		}
	}

	touch(address: string): void {
		if (!this.#dirty.has(address)) this.#dirty.set(address, this.at(address));
	}

	/** Every address within one of these prefixes, which do not overlap. */
	*touchWithin(prefixes: readonly Prefix[]): Steps<void> {
		for (const prefix of prefixes) {
			const around = this.#bucketTable.longest(prefix);
			if (around !== undefined && around.prefix.length < prefix.length)
				for (const address of around.addresses) {
					if (containsAddress(prefix, bytesOf(address))) this.touch(address);
					yield;
				}
			else
				for (const { addresses } of this.#bucketTable.within(prefix)) {
					for (const address of addresses) this.touch(address);
					yield;
				}
		}
	}

	*touchAll(): Steps<void> {
		for (const address of this.#claims.keys()) {
			this.touch(address);
			yield;
		}
	}

	get hasDirty(): boolean {
		return this.#dirty.size > 0;
	}

	take(): Map<string, Owner | undefined> {
		const dirty = this.#dirty;
		this.#dirty = new Map();
		return dirty;
	}

	#bucketOf(address: string): Bucket {
		const key = bucketKey(address);
		let bucket = this.#buckets.get(key);
		if (bucket === undefined) {
			const bytes = parseAddress(address)!;
			bucket = { prefix: makePrefix(bytes, address.includes(":") ? 64 : 24), addresses: [] };
			this.#buckets.set(key, bucket);
			this.#bucketTable.set(bucket.prefix, bucket);
		}
		return bucket;
	}

	#unbucket(address: string): void {
		const key = bucketKey(address);
		const { addresses, prefix } = this.#buckets.get(key)!;
		const last = addresses.pop()!;
		if (last !== address) addresses[addresses.indexOf(address)] = last;
		if (addresses.length > 0) return;
		this.#buckets.delete(key);
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
