/**
 * What the live flows use, for the metrics, in one pass over the table: SNAT ports by address and protocol, and flows by
 * Service. Fields are read where they stand: to decode a flow takes ten times as long, and most are not translated.
 */
import { randomBytes } from "node:crypto";
import type { BpfMap } from "#native";
import { liveGeneration } from "../../forwarder/flow.js";
import { expiryOf } from "../../forwarder/flow_state.js";
import { formatAddress } from "../../tables/address.js";
import {
	Flow,
	FlowAddresses,
	FlowAddressesOffset,
	FlowDirection,
	FlowFlag,
	FlowOffset,
	FlowPorts,
	FlowPortsOffset,
	type NodeConfig,
} from "../../tables/generated.js";
import { mapSlices } from "./map_slices.js";

/** Protocols whose ports (ICMP: echo identifiers) are translated, by number. */
const SNAT_PROTOCOLS: Readonly<Record<number, string>> = {
	1: "icmp",
	6: "tcp",
	17: "udp",
	58: "icmp",
};

export interface SnatUse {
	/** The Node's, that the outside sees. */
	address: string;
	/** "tcp", "udp" or "icmp". */
	protocol: string;
	/** Ports of snat.portRange that a live flow has, towards whatever destination. */
	ports: number;
	/**
	 * Ports in use towards the one destination (address and port) that has most: a new flow to it is refused when this
	 * reaches the size of the range. Destinations are told apart by a hash: in a table full of destinations this may
	 * be a few too many.
	 */
	busiest: number;
}

export interface FlowUsage {
	/** Only addresses and protocols that are in use. */
	snat: SnatUse[];
	services: Map<string, number>;
}

const ORIGINAL = FlowOffset.addresses + FlowDirection.ORIGINAL * FlowAddresses.size;
const REPLY = FlowOffset.addresses + FlowDirection.REPLY * FlowAddresses.size;
const REPLY_PORTS = FlowOffset.ports + FlowDirection.REPLY * FlowPorts.size;
const CLIENT = ORIGINAL + FlowAddressesOffset.source;
const OUTSIDE = REPLY + FlowAddressesOffset.destination;
const SERVER = REPLY + FlowAddressesOffset.source;
const OUTSIDE_PORT = REPLY_PORTS + FlowPortsOffset.destination;
const SERVER_PORT = REPLY_PORTS + FlowPortsOffset.source;
const ADDRESS_BYTES = FlowAddressesOffset.destination - FlowAddressesOffset.source;

/**
 * In slices, yielding to the event loop in between. A flow that moves to another slot meanwhile may be missed or
 * counted twice.
 *
 * @param flows the map
 * @param node for the time-outs and the range of ports; undefined: nothing is in force, nothing is counted
 * @param now ns, CLOCK_MONOTONIC
 * @param services of backends, by their ids: what their flows are counted for; undefined: nothing
 */
export async function readFlowUsage(
	flows: BpfMap,
	node: NodeConfig | undefined,
	now: bigint,
	services: (backend: number) => string | undefined,
): Promise<FlowUsage> {
	const counts = new Map<string, number>();
	if (node === undefined) return { snat: [], services: counts };
	const ports = new PortUse(node);
	const isOver = overBy(node, now);
	for await (const { values } of mapSlices(flows)) {
		for (let at = 0; at < values.length; at += Flow.size) {
			if (liveGeneration(values.readUInt32LE(at + FlowOffset.claim)) === undefined) continue;
			if (isOver(values, at)) continue;
			const upper = values.readUInt8(at + FlowOffset.backendUpper) << 16;
			const backend = upper | values.readUInt16LE(at + FlowOffset.backend);
			const service = backend === 0 ? undefined : services(backend);
			if (service !== undefined) counts.set(service, (counts.get(service) ?? 0) + 1);
			if (values.readUInt16LE(at + FlowOffset.flags) & FlowFlag.SNAT) ports.add(values, at);
		}
	}
	return { snat: ports.uses(), services: counts };
}

function overBy(node: NodeConfig, now: bigint): (values: Buffer, at: number) => boolean {
	const oldest = node.flowTimeouts.map((_, state) => expiryOf(state, node, now));
	return (values, at) => {
		const bound = oldest[values.readUInt8(at + FlowOffset.state)];
		return bound === undefined || values.readBigUInt64LE(at + FlowOffset.lastSeen) < bound;
	};
}

/** Destinations are told apart by as many bits of their hash. */
const HASH_BITS = 16;

class PortUse {
	readonly #range: { first: number; last: number };
	readonly #uses = new Map<string, SnatUse & { taken: Uint8Array }>();
	readonly #towards = new Uint16Array(1 << HASH_BITS);
	/** Nobody outside can choose destinations that share a place. */
	readonly #seed = randomBytes(4).readUInt32LE() | 1;

	constructor({ snatPortFirst, snatPortLast }: NodeConfig) {
		this.#range = { first: snatPortFirst, last: snatPortLast };
	}

	add(values: Buffer, at: number): void {
		const protocol = SNAT_PROTOCOLS[values.readUInt8(at + FlowOffset.protocol)];
		const port = values.readUInt16BE(at + OUTSIDE_PORT) - this.#range.first;
		if (protocol === undefined || port < 0 || port > this.#range.last - this.#range.first) return;
		// A port that was changed at a client's own address is none of the Node's.
		if (isSameAddress(values, at + CLIENT, at + OUTSIDE)) return;
		const use = this.#useOf(formatAddress(values, at + OUTSIDE), protocol);
		const byte = port >> 3;
		const bit = 1 << (port & 7);
		if (!(use.taken[byte]! & bit)) {
			use.taken[byte]! |= bit;
			use.ports++;
		}
		const place = this.#placeOf(values, at);
		const towards = Math.min(0xffff, this.#towards[place]! + 1);
		this.#towards[place] = towards;
		if (towards > use.busiest) use.busiest = towards;
	}

	uses(): SnatUse[] {
		const most = this.#range.last - this.#range.first + 1;
		return [...this.#uses.values()].map(({ taken: _, busiest, ...use }) => ({
			...use,
			busiest: Math.min(busiest, most),
		}));
	}

	#useOf(address: string, protocol: string): SnatUse & { taken: Uint8Array } {
		const key = `${address} ${protocol}`;
		let use = this.#uses.get(key);
		if (use === undefined) {
			const taken = new Uint8Array((this.#range.last - this.#range.first + 8) >> 3);
			use = { address, protocol, ports: 0, busiest: 0, taken };
			this.#uses.set(key, use);
		}
		return use;
	}

	/** By the Node's address, the destination with its port, and the protocol. */
	#placeOf(values: Buffer, at: number): number {
		let hash = Math.imul(this.#seed ^ values.readUInt16LE(at + SERVER_PORT), 0x9e3779b1);
		const mix = (word: number): void => {
			hash = Math.imul(hash ^ word ^ (hash >>> 15), 0x85ebca6b) + this.#seed;
		};
		mix(values.readUInt8(at + FlowOffset.protocol));
		for (let i = 0; i < ADDRESS_BYTES; i += 4) {
			mix(values.readInt32LE(at + SERVER + i));
			mix(values.readInt32LE(at + OUTSIDE + i));
		}
		return (hash ^ (hash >>> 13)) >>> (32 - HASH_BITS);
	}
}

function isSameAddress(values: Buffer, one: number, other: number): boolean {
	return values.compare(values, other, other + ADDRESS_BYTES, one, one + ADDRESS_BYTES) === 0;
}
