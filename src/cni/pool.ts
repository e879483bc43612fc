/**
 * The Pods' addresses: which are taken, and which comes next.
 *
 * The lowest free address after the last one that was handed out, then from the start again: an
 * address rests as long as the pool allows before another Pod gets it, and connections of the old
 * one do not meet the new one.
 */
import {
	addressFromNumber,
	addressToNumber,
	familyOf,
	formatAddress,
	parseAddress,
} from "../tables/address.js";
import { parsePrefix } from "../tables/prefix.js";

/** A pod CIDR of the Node and its gateway address, both canonical. */
export interface PodNetwork {
	cidr: string;
	gateway: string;
}

/** The addresses of a pod CIDR that Pods may have; `last` is below `first` where there are none. */
export interface Range {
	family: 4 | 6;
	first: bigint;
	last: bigint;
	gateway: string;
}

/**
 * Not for Pods: the network address (IPv6: the subnet-router anycast address, RFC 4291 2.6.1), the
 * gateway behind it, and the IPv4 broadcast address. A /31, /32, /127 or /128 has none left.
 */
export function usableRange({ cidr, gateway }: PodNetwork): Range {
	const { family, bytes, length } = parsePrefix(cidr);
	const network = addressToNumber(bytes);
	const size = 1n << BigInt((family === 4 ? 32 : 128) - length);
	return {
		family,
		first: network + 2n,
		last: network + size - (family === 4 ? 2n : 1n),
		gateway,
	};
}

export interface Allocation {
	address: string;
	gateway: string;
}

/**
 * @param networks of one family, in the order in which they are to fill up
 * @param taken canonical text; addresses of other networks do no harm
 * @param previous the address that was handed out last, if any
 * @returns undefined when every address is taken
 */
export function nextAddress(
	networks: readonly PodNetwork[],
	taken: ReadonlySet<string>,
	previous?: string,
): Allocation | undefined {
	const ranges = networks.map(usableRange);
	const gateways = new Set(networks.map(({ gateway }) => gateway));
	const hand = previous === undefined ? undefined : numberOf(previous);
	const at = hand === undefined ? -1 : ranges.findIndex((r) => r.first <= hand && hand <= r.last);
	const current = ranges[at];
	const turns: Range[] =
		current === undefined || hand === undefined
			? ranges
			: [
					{ ...current, first: hand + 1n },
					...ranges.slice(at + 1),
					...ranges.slice(0, at),
					{ ...current, last: hand },
				];
	for (const { family, first, last, gateway } of turns) {
		for (let number = first; number <= last; number++) {
			const address = formatAddress(addressFromNumber(number, family));
			// The gateway of one pod CIDR may lie inside of another one.
			if (!taken.has(address) && !gateways.has(address)) return { address, gateway };
		}
	}
	return undefined;
}

function numberOf(address: string): bigint | undefined {
	const bytes = parseAddress(address);
	return bytes === undefined ? undefined : addressToNumber(bytes);
}

/** What is taken, and of each family where the next search begins. */
export class AddressPool {
	readonly #taken = new Set<string>();
	readonly #previous = new Map<4 | 6, string>();

	/** Addresses that were handed out by an earlier process, oldest endpoint first. */
	adopt(addresses: readonly string[]): void {
		for (const address of addresses) this.#take(address);
	}

	/**
	 * One address of each family that the Node has, IPv4 first; they are taken at once.
	 *
	 * @returns undefined when a family has none left, or there is no network at all
	 */
	reserve(
		networks: readonly PodNetwork[],
	): { addresses: string[]; gateways: string[] } | undefined {
		const found = this.#next(networks);
		if (found === undefined) return undefined;
		const addresses = found.map(({ address }) => address);
		for (const address of addresses) this.#take(address);
		return { addresses, gateways: found.map(({ gateway }) => gateway) };
	}

	hasRoom(networks: readonly PodNetwork[]): boolean {
		return this.#next(networks) !== undefined;
	}

	free(addresses: readonly string[]): void {
		for (const address of addresses) this.#taken.delete(address);
	}

	/** True when each of the addresses is one that these networks could have given. */
	isWithin(addresses: readonly string[], networks: readonly PodNetwork[]): boolean {
		const ranges = networks.map(usableRange);
		return addresses.every((address) => {
			const number = numberOf(address);
			return ranges.some(
				({ family, first, last }) =>
					family === familyOf(address) && number !== undefined && first <= number && number <= last,
			);
		});
	}

	#next(networks: readonly PodNetwork[]): Allocation[] | undefined {
		const found: Allocation[] = [];
		for (const family of [4, 6] as const) {
			const own = networks.filter(({ cidr }) => isFamily(cidr, family));
			if (own.length === 0) continue;
			const next = nextAddress(own, this.#taken, this.#previous.get(family));
			if (next === undefined) return undefined;
			found.push(next);
		}
		return found.length === 0 ? undefined : found;
	}

	#take(address: string): void {
		this.#taken.add(address);
		this.#previous.set(familyOf(address), address);
	}
}

function isFamily(cidr: string, family: 4 | 6): boolean {
	return cidr.includes(":") === (family === 6);
}
