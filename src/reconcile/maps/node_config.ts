/**
 * The one element of node_config, and with it the epochs that tell flows to look again.
 *
 *  1. after a write to another table the epoch is owed that makes flows look again (`owe`)
 *  2. the next write of node_config raises the epochs that are owed; one that is refused leaves them owed
 *  3. keys of hashes and probes are made once, and stay for as long as the map
 */
import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { type HashKey, NodeConfig } from "../../tables/generated.js";
import type { Tables } from "../../tables/tables.js";
import type { AgentTables, EntryFailure } from "./agent_tables.js";

export class NodeConfigState {
	readonly #tables: AgentTables;
	#held: NodeConfig;
	/** Entries of these kinds were written, and node_config has not yet said so to flows. */
	#owed = { route: false, nextHop: false };

	/** Reads what an earlier agent wrote. */
	constructor(tables: AgentTables) {
		this.#tables = tables;
		this.#held = tables.readNodeConfig();
	}

	/** Epochs and the rest, as it was last written. */
	get held(): NodeConfig {
		return this.#held;
	}

	/** The next write raises this epoch. */
	owe(epoch: "route" | "nextHop"): void {
		this.#owed[epoch] = true;
	}

	/** Returns what the kernel refused; undefined: there was nothing to write. */
	write(wanted: Tables["nodeConfig"], hostIfindex: number): EntryFailure<unknown>[] | undefined {
		// Flows keep the addresses that they were translated with.
		this.#owed.route ||= newAddresses(this.#held, wanted);
		const config: NodeConfig = {
			...wanted,
			...this.#nextEpochs(),
			hostIfindex,
			flowHash: secret(this.#held.flowHash),
			portHash: secret(this.#held.portHash),
			probeKey: this.#held.probeKey.some((half) => half !== 0n)
				? this.#held.probeKey
				: [randomBytes(8).readBigUInt64LE(), randomBytes(8).readBigUInt64LE()],
			strippedMac: this.#held.strippedMac || secretMac(),
		};
		if (NodeConfig.encode(config).equals(NodeConfig.encode(this.#held))) return undefined;
		return this.#put(config);
	}

	/** Flows look again at everything. What cannot be written now is written with the next apply. */
	raiseRouteEpoch(): EntryFailure<unknown>[] {
		this.#owed.route = true;
		// The first apply writes it.
		if (this.#held.flags === 0) return [];
		return this.#put({ ...this.#held, ...this.#nextEpochs() });
	}

	/**
	 * Cached next hops are asked for again. Nothing to do while nothing is configured. What cannot be
	 * written now is written with the next apply.
	 */
	raiseNextHopEpoch(): void {
		if (this.#held.flags === 0) return;
		this.#owed.nextHop = true;
		this.#put({ ...this.#held, ...this.#nextEpochs() });
	}

	/** Reads it again. Returns whether someone else has changed it: that is a difference for the next write. */
	readAgain(): boolean {
		const config = this.#tables.readNodeConfig();
		if (isDeepStrictEqual(config, this.#held)) return false;
		// Keys and epochs are this agent's own knowledge: what was lost is written as it was.
		const { routeEpoch, nextHopEpoch, flowHash, portHash, probeKey } = this.#held;
		const own = { routeEpoch, nextHopEpoch, flowHash, portHash, probeKey };
		this.#held = { ...config, ...own };
		this.#owed = { route: true, nextHop: true };
		return true;
	}

	/** Those that are in force, or the next ones where something is pending. 0 is no route epoch. */
	#nextEpochs(): Pick<NodeConfig, "routeEpoch" | "nextHopEpoch"> {
		const { routeEpoch, nextHopEpoch } = this.#held;
		const { route, nextHop } = this.#owed;
		return {
			routeEpoch: increment(routeEpoch, route) || 1,
			nextHopEpoch: increment(nextHopEpoch, nextHop),
		};
	}

	/**
	 * The kernel copies an element under its readers' eyes. So the epochs, and the flags of the first time, are
	 * written by themselves, after the rest: what a program has read of that half written has the epoch of before,
	 * and is looked up again.
	 */
	#put(config: NodeConfig): EntryFailure<unknown>[] {
		const { flags, routeEpoch, nextHopEpoch } = this.#held;
		const rest = { ...config, ...(flags === 0 ? { flags } : { routeEpoch, nextHopEpoch }) };
		for (const one of [rest, config]) {
			if (isDeepStrictEqual(one, this.#held)) continue;
			const failures = this.#tables.nodeConfig.put([[0, one]]);
			if (failures.length > 0) return failures;
			this.#held = one;
		}
		this.#owed = { route: false, nextHop: false };
		return [];
	}
}

/** What flows may have been translated to. */
const ADDRESSES = [
	...(["snatAddress4", "snatAddress6", "gatewayAddress4", "gatewayAddress6"] as const),
	...(["returnAddress4", "returnAddress6"] as const),
] as const;
type OwnAddresses = Pick<NodeConfig, (typeof ADDRESSES)[number]>;

function newAddresses(before: OwnAddresses, now: OwnAddresses): boolean {
	return ADDRESSES.some((field) => before[field] !== now[field]);
}

/** The one that there is, or a new one. */
function secret(key: HashKey): HashKey {
	if (key.word.some((word) => word !== 0)) return key;
	return { word: key.word.map(() => randomBytes(4).readUInt32LE()) };
}

/** Epochs wrap: they are compared for equality only. */
function increment(epoch: number, really: boolean): number {
	return really ? (epoch + 1) >>> 0 : epoch;
}

/** A unicast MAC that is locally administered (IEEE 802, 8.2), as `struct next_hop` has them. */
function secretMac(): bigint {
	const bytes = randomBytes(8).fill(0, 6);
	bytes[0] = (bytes[0]! & 0xfc) | 0x02;
	return bytes.readBigUInt64LE();
}
