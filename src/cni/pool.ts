/**
 * Allocation of Pod addresses.
 *
 * The next address is the lowest free one after the last one assigned, wrapping around. So an address is
 * reused as late as possible, and connections of its previous Pod do not reach the next one.
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

/** The addresses of a pod CIDR for Pods; `last` is below `first` if there are none. */
export interface Range {
	family: 4 | 6;
	first: bigint;
	last: bigint;
	gateway: string;
}

/**
 * Not for Pods: the network address (IPv6: the subnet-router anycast address, RFC 4291 2.6.1), the gateway
 * after it, and the IPv4 broadcast address. A /31, /32, /127 or /128 has no address left.
 */
function usableRange({ cidr, gateway }: PodNetwork): Range {
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
 * @param networks networks of one family, in the order of use
 * @param taken canonical text; addresses of other networks are ignored
 * @param previous the last address assigned, if any
 * @returns undefined if every address is taken
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
			// The gateway of one pod CIDR may be inside another one.
			if (!taken.has(address) && !gateways.has(address)) return { address, gateway };
		}
	}
	return undefined;
}

function numberOf(address: string): bigint | undefined {
	const bytes = parseAddress(address);
	return bytes === undefined ? undefined : addressToNumber(bytes);
}

/** The taken addresses and, for each family, where the next search starts. */
export class AddressPool {
	readonly #taken = new Set<string>();
	readonly #previous = new Map<4 | 6, string>();

	/** Adopts addresses assigned by an earlier process, oldest endpoint first. */
	adopt(addresses: readonly string[]): void {
		for (const address of addresses) this.#take(address);
	}

	/**
	 * Takes one address of each family that the Node has, IPv4 first.
	 *
	 * @returns undefined if a family has none left, or if there is no network
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

	/** True if these networks could have assigned each of the addresses. */
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
