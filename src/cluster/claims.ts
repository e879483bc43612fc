/** The pod CIDRs and addresses that Nodes have. */
import { type Prefix, PrefixTable } from "../tables/prefix.js";
import { podPrefixes } from "./node_object.js";
import type { NodeObject } from "./snapshot.js";

export class Claims {
	readonly #cidrs = new PrefixTable<{ name: string; text: string }>();
	readonly #addresses = new Map<string, string>();

	/** Adds a Node that conflicts with no other. */
	add(node: NodeObject): void {
		for (const prefix of podPrefixes(node))
			this.#cidrs.set(prefix, { name: node.name, text: prefix.text });
		for (const address of addressesOf(node)) this.#addresses.set(address, node.name);
	}

	/** Removes a Node; the same object that was added. */
	remove(node: NodeObject): void {
		for (const prefix of podPrefixes(node)) this.#cidrs.delete(prefix);
		for (const address of addressesOf(node)) this.#addresses.delete(address);
	}

	/** The prefix is a single address, and a Node or Pod has it. */
	has(prefix: Prefix): boolean {
		if (prefix.length < (prefix.family === 4 ? 32 : 128)) return false;
		const address = prefix.text.slice(0, prefix.text.indexOf("/"));
		return this.#addresses.has(address) || this.#cidrs.overlapping(prefix) !== undefined;
	}

	/** The Node that this one conflicts with, and why. */
	conflict(node: NodeObject): { with: string; why: string } | undefined {
		for (const prefix of podPrefixes(node)) {
			const other = this.#cidrs.overlapping(prefix);
			if (other !== undefined)
				return {
					with: other.name,
					why: `expected pod CIDRs of its own, ${prefix.text} overlaps ${other.text} of Node ${other.name}`,
				};
		}
		for (const address of addressesOf(node)) {
			const other = this.#addresses.get(address);
			if (other !== undefined)
				return {
					with: other,
					why: `expected addresses of its own, ${address} is an address of Node ${other}`,
				};
		}
		return undefined;
	}
}

function addressesOf(node: NodeObject): Set<string> {
	return new Set([...node.internalIPs, ...node.transportAddresses]);
}
