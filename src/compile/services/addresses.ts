/** The owners of the cluster's addresses: Nodes, Pods, Services. Updated in time proportional to the changes. */
import { podPrefixes } from "../../cluster/node_object.js";
import type { NodeObject } from "../../cluster/snapshot.js";
import { parseAddress } from "../../tables/address.js";
import {
	contains,
	containsAddress,
	hostPrefix,
	type Prefix,
	PrefixTable,
} from "../../tables/prefix.js";
import type { OwnNode } from "../own_node.js";

export type AddressUse =
	/** In a service CIDR. */
	| "serviceCIDR"
	/** This Node's own. */
	| "own"
	/** Another Node's. */
	| "node"
	| "pods"
	/** No host can have it. */
	| "unusable"
	| "free";

/** Node addresses and pod CIDRs that have got an owner, or lost it. */
export interface ChangedAddresses {
	addresses: Set<string>;
	podCidrs: Prefix[];
}

export class ClusterAddresses {
	readonly #nodes = new Map<string, NodeObject>();
	/** Address → how many Nodes claim it. */
	readonly #addresses = new Map<string, number>();
	readonly #podCidrs = new PrefixTable<string>();

	/** @param node undefined: there is none of this name */
	set(name: string, node: NodeObject | undefined, changed?: ChangedAddresses): void {
		const before = this.#nodes.get(name);
		if (before === node) return;
		if (before !== undefined) {
			for (const address of addressesOf(before)) {
				const uses = this.#addresses.get(address)! - 1;
				if (uses > 0) this.#addresses.set(address, uses);
				else this.#addresses.delete(address);
				changed?.addresses.add(address);
			}
			for (const prefix of podPrefixes(before)) {
				this.#podCidrs.delete(prefix);
				changed?.podCidrs.push(prefix);
			}
		}
		if (node === undefined) {
			this.#nodes.delete(name);
			return;
		}
		this.#nodes.set(name, node);
		for (const address of addressesOf(node)) {
			this.#addresses.set(address, (this.#addresses.get(address) ?? 0) + 1);
			changed?.addresses.add(address);
		}
		for (const prefix of podPrefixes(node)) {
			this.#podCidrs.set(prefix, name);
			changed?.podCidrs.push(prefix);
		}
	}

	names(): Iterable<string> {
		return this.#nodes.keys();
	}

	/** True: the address is in some Node's pod CIDR. */
	isPods(address: string): boolean {
		const bytes = parseAddress(address);
		return bytes !== undefined && this.#podCidrs.lookup(bytes) !== undefined;
	}

	/** The use of an address in the cluster. @param address canonical */
	useOf(address: string, own: OwnNode): AddressUse {
		const bytes = parseAddress(address);
		if (bytes === undefined || !isHostAddress(bytes)) return "unusable";
		if (inServiceCidr(address, bytes, own)) return "serviceCIDR";
		if (own.self.addresses.has(address)) return "own";
		const isPods = this.#podCidrs.lookup(bytes) !== undefined;
		if (isPods || own.self.podCidrs.some((prefix) => containsAddress(prefix, bytes))) return "pods";
		return this.#addresses.has(address) ? "node" : "free";
	}
}

export function inServiceCidr(address: string, bytes: Uint8Array, { services }: OwnNode): boolean {
	// A prefix of one address is that of a Service, which is no range.
	return services.some(
		(prefix) =>
			containsAddress(prefix, bytes) && prefix.length < (address.includes(":") ? 128 : 32),
	);
}

/** True for what a packet can be sent to: no multicast, loopback, link-local, unspecified or broadcast address. */
export function isHostAddress(bytes: Uint8Array): boolean {
	const { family } = hostPrefix(bytes);
	if (family === 4) {
		const [a = 0, b = 0] = bytes.subarray(12);
		return a !== 0 && a !== 127 && a < 224 && !(a === 169 && b === 254);
	}
	const [a = 0, b = 0] = bytes;
	const isLow = bytes.subarray(0, 15).every((byte) => byte === 0);
	return a !== 0xff && !(a === 0xfe && (b & 0xc0) === 0x80) && !(isLow && (bytes[15] ?? 0) < 2);
}

export function isIn(prefixes: readonly Prefix[], address: string): boolean {
	const bytes = parseAddress(address);
	if (bytes === undefined) return false;
	const host = hostPrefix(bytes);
	return prefixes.some((prefix) => contains(prefix, host));
}

function addressesOf({ internalIPs, transportAddresses }: NodeObject): Set<string> {
	return new Set([...internalIPs, ...transportAddresses]);
}
