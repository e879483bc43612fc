/**
 * The device and MAC addresses towards an address. A cached next hop is used for NEXT_HOP_TRUST_MS; then
 * one packet goes through the kernel's neighbour code, and the result is cached again (ARCHITECTURE, Next
 * hops).
 */
import { MAC_SIZE, readMac, writeMac } from "../tables/address.js";
import { Action, EventCounter, Limit, type NextHop, type NodeConfig } from "../tables/generated.js";
import type { Draft } from "./draft.js";

const NS_PER_MS = 1_000_000n;
/** The MAC of a neighbour that the kernel has yet to resolve. */
export const UNKNOWN_MAC = "00:00:00:00:00:00";

/** How a frame leaves: WIRE with these MACs, or WIRE_NEIGHBOUR, where the kernel writes its own. */
export interface NextHopWay {
	action: number;
	ifindex: number;
	destinationMac: string;
	sourceMac: string;
	/** What is cached from now on; undefined: what was there stays. */
	cache: NextHop | undefined;
}

/** Why there is no next hop. "local": the kernel does not forward there; else the type of its route. */
export type Refusal = "local" | "blackhole" | "unreachable" | "prohibit";

/**
 * The way to `destination`: from what is cached while that is trusted, else from the kernel.
 */
export function resolveNextHop(
	draft: Draft,
	cached: NextHop | undefined,
	destination: string,
): NextHopWay | Refusal {
	const { tables, node, now, context } = draft;
	const settle = tables.nextHopSettle();
	const settling = now < settle;
	if (cached !== undefined && cached.checked >= settle && isTrusted(cached, node, now)) {
		return {
			action: Action.WIRE,
			ifindex: cached.ifindex,
			destinationMac: macText(cached.destinationMac),
			sourceMac: macText(cached.sourceMac),
			cache: undefined,
		};
	}
	const answer = tables.fib({ destination, ifindex: context.ifindex });
	if (answer.kind === "notForwarded") return "local";
	if (answer.kind === "noRoute") return answer.type;
	const { ifindex, destinationMac, sourceMac } = answer;
	const way = { action: Action.WIRE_NEIGHBOUR, ifindex };
	if (destinationMac === undefined) {
		const cache = cached && { ...cached, checked: 0n };
		return { ...way, destinationMac: UNKNOWN_MAC, sourceMac: UNKNOWN_MAC, cache };
	}
	if (cached === undefined) return { ...way, destinationMac, sourceMac, cache: undefined };
	if (settling) {
		return { ...way, destinationMac, sourceMac, cache: { ...cached, checked: 0n } };
	}
	draft.event(EventCounter.NEXT_HOP_REFRESHED);
	return {
		...way,
		destinationMac,
		sourceMac,
		cache: {
			checked: now,
			destinationMac: macWord(destinationMac),
			sourceMac: macWord(sourceMac),
			ifindex,
			epoch: node.nextHopEpoch,
		},
	};
}

function isTrusted(hop: NextHop, node: NodeConfig, now: bigint): boolean {
	const age = now - hop.checked;
	return (
		hop.checked !== 0n &&
		age < BigInt(Limit.NEXT_HOP_TRUST_MS) * NS_PER_MS &&
		hop.epoch === node.nextHopEpoch
	);
}

/** The bytes as on the wire, then two zero bytes, read as one word. */
function macWord(mac: string): bigint {
	const bytes = Buffer.alloc(8);
	writeMac(bytes, 0, mac);
	return bytes.readBigUInt64LE();
}

function macText(word: bigint): string {
	const bytes = Buffer.alloc(8);
	bytes.writeBigUInt64LE(word);
	return readMac(bytes.subarray(0, MAC_SIZE), 0);
}
