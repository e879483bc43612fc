/**
 * The packets that the eBPF programs cannot finish, from the ring `slow_path`:
 *
 *  SLOW_TTL_EXCEEDED  answered with ICMP time exceeded
 *  SLOW_TOO_BIG       answered with fragmentation needed, or packet too big
 *  SLOW_UNREACHABLE, SLOW_PROHIBITED, SLOW_NO_HOST  answered with destination unreachable
 *  SLOW_REFUSED       answered with port unreachable, from the Service's address
 *  SLOW_UNRESOLVED    a copy: held until the kernel gives up on its next hop, then answered with host unreachable
 *  SLOW_FRAGMENT      translated by its flow, fragmented, sent on
 *  SLOW_HOLD          a later fragment before its first: held until the ports are known, then
 *                     translated by its flow and sent on, if network policy allows the flow
 *
 * A record contains the packet as it arrived. The tables are only read: the flow was created before the packet was
 * handed up. Packets are sent as frames out of a device (delivery.ts), never through the Node's output chain. A packet
 * that cannot be handled is counted and logged; it never ends the agent.
 */

import { randomInt } from "node:crypto";
import { type BpfMap, RingBuffer } from "#native";
import { finishTransportChecksum } from "../forwarder/checksum.js";
import { isTranslated, lookUp, targetOf } from "../forwarder/flow.js";
import type { FlowEntry, TableReader } from "../forwarder/forwarder.js";
import { fragmentIpv4 } from "../forwarder/fragment.js";
import { fragmentKey } from "../forwarder/fragments.js";
import { type IcmpError, icmpError, mayAnswer } from "../forwarder/icmp.js";
import { ETHERNET_HEADER, Ethertype, type Packet, parse } from "../forwarder/packet.js";
import { mayGoOn } from "../forwarder/policy.js";
import { decrementTtl, translate } from "../forwarder/rewrite.js";
import { gatewayAddress, routeOf } from "../forwarder/route.js";
import { backendIdOf } from "../forwarder/service.js";
import {
	EndpointPolicy,
	type FlowKey,
	type Fragment,
	type FragmentKey,
	FragmentOwner,
	Hook,
	type NodeConfig,
	RouteKind,
	SlowPathHeader,
	SlowPathKind,
} from "../tables/generated.js";
import type { Log } from "../text/log.js";
import { Delivery } from "./delivery.js";
import { HeldFragments } from "./held_fragments.js";
import { RateLimit } from "./rate_limit.js";
import { type NextHopAddress, UnresolvedPackets } from "./unresolved_packets.js";

/** ICMP errors per second to one destination, and burst: enough for a traceroute's three probes. */
const ERRORS = { rate: 20, burst: 40 };
/** Limit for log lines about packets that could not be handled. */
const COMPLAINTS = { rate: 1 / 6, burst: 5 };

export interface SlowPathOptions {
	/** The map `slow_path`. */
	ring: BpfMap;
	tables: TableReader;
	log: Pick<Log, "warn">;
}

/** Counts of what happened to packets, for `fairway status` and tests. */
export interface SlowPathCounters {
	answered: number;
	/** Packets without an answer: an error is not allowed or not possible, or above the limit of its destination. */
	unanswered: number;
	fragmented: number;
	released: number;
	expired: number;
	failed: number;
}

interface Held {
	packet: Packet;
	header: SlowPathHeader;
}

/** The tuple that a packet of this flow leaves with; undefined: its own. */
function translatedTuple(entry: FlowEntry | undefined): FlowKey | undefined {
	if (entry === undefined || !isTranslated(entry.flow)) return undefined;
	return targetOf(entry.flow, entry.direction);
}

export class SlowPath {
	readonly counters: SlowPathCounters = {
		answered: 0,
		unanswered: 0,
		fragmented: 0,
		released: 0,
		expired: 0,
		failed: 0,
	};
	readonly #tables: TableReader;
	readonly #log: Pick<Log, "warn">;
	readonly #ring: RingBuffer;
	readonly #delivery: Delivery;
	readonly #errors = new RateLimit(ERRORS);
	readonly #complaints = new RateLimit(COMPLAINTS);
	readonly #held: HeldFragments<Held, Fragment, NodeConfig>;
	readonly #unresolved = new UnresolvedPackets<Packet>();

	constructor({ ring, tables, log }: SlowPathOptions) {
		this.#tables = tables;
		this.#log = log;
		this.#delivery = new Delivery(tables);
		this.#held = new HeldFragments<Held, Fragment, NodeConfig>({
			context: () => tables.nodeConfig(),
			find: (held) => tables.fragment(keyOf(held)),
			release: (held, ports, node) => {
				this.#guarded(() => this.#release(held, ports, node), undefined);
			},
			onExpired: () => this.counters.expired++,
		});
		this.#ring = new RingBuffer(ring, (record) => {
			this.#guarded(() => this.#handle(record), undefined);
		});
	}

	close(): void {
		this.#ring.close();
		this.#held.close();
		this.#unresolved.close();
		this.#delivery.close();
	}

	/** Answers the Pods whose packets wait for a next hop that the kernel has given up on. */
	nextHopFailed(nextHop: NextHopAddress): void {
		for (const packet of this.#unresolved.take(nextHop)) {
			this.#guarded(() => {
				const node = this.#tables.nodeConfig();
				if (node !== undefined) this.#answer(packet, node, { kind: "no host" });
			}, undefined);
		}
	}

	#guarded<T>(act: () => T, otherwise: T): T {
		try {
			return act();
		} catch (error) {
			this.#complain(error);
			return otherwise;
		}
	}

	#complain(error: unknown): void {
		this.counters.failed++;
		if (this.#complaints.take("", performance.now())) {
			this.#log.warn({ err: error }, "cannot handle a packet on the slow path");
		}
	}

	#handle(record: Buffer): void {
		const header = SlowPathHeader.decode(record);
		const packet = parseIp(
			record.subarray(SlowPathHeader.size, SlowPathHeader.size + header.length),
			header,
		);
		const node = this.#tables.nodeConfig();
		if (packet === undefined || node === undefined) return;
		switch (header.kind) {
			case SlowPathKind.TTL_EXCEEDED:
				this.#answer(packet, node, { kind: "time exceeded" });
				break;
			case SlowPathKind.TOO_BIG:
				this.#answer(packet, node, { kind: "too big", mtu: header.mtu });
				break;
			case SlowPathKind.UNREACHABLE:
				this.#answer(packet, node, { kind: "unreachable" });
				break;
			case SlowPathKind.PROHIBITED:
				this.#answer(packet, node, { kind: "prohibited" });
				break;
			case SlowPathKind.NO_HOST:
				this.#answer(packet, node, { kind: "no host" });
				break;
			case SlowPathKind.REFUSED:
				this.#answer(packet, node, { kind: "refused" }, packet.key.destination);
				break;
			case SlowPathKind.UNRESOLVED: {
				const nextHop = { address: header.nextHop, ifindex: header.nextHopIfindex };
				this.#unresolved.hold(packet, header.pod, Object.values(packet.key).join(" "), nextHop);
				break;
			}
			case SlowPathKind.FRAGMENT:
				this.#fragment(packet, header, node);
				break;
			case SlowPathKind.HOLD:
				this.#hold({ packet, header }, node);
				break;
			default:
				throw new Error(`Cannot handle a record: expected a known kind, got ${header.kind}`);
		}
	}

	#answer(
		packet: Packet,
		node: NodeConfig,
		error: IcmpError,
		source = gatewayAddress(node, packet.family),
	): void {
		const { source: destination } = packet.key;
		const allowed =
			source !== "" && mayAnswer(packet) && this.#errors.take(destination, performance.now());
		if (!allowed) {
			this.counters.unanswered++;
			return;
		}
		this.#delivery.send(icmpError(packet, source, error), node);
		this.counters.answered++;
	}

	#fragment(packet: Packet, header: SlowPathHeader, node: NodeConfig): void {
		finishTransportChecksum(packet);
		// from_host sees the fragments again and then does the rest, including translation.
		if (header.hook !== Hook.FROM_HOST) {
			const ports = packet.isLaterFragment ? this.#tables.fragment(keyOf({ packet, header })) : {};
			const known = { ...packet, key: { ...packet.key, ...ports } };
			const entry = lookUp(known, this.#tables, node, process.hrtime.bigint());
			const change = translatedTuple(entry);
			if (change) translate(known, change);
			decrementTtl(packet);
		}
		this.#sendFragments(packet, header.mtu, node);
		this.counters.fragmented++;
	}

	#sendFragments(
		{ frame, l3, length, identification }: Packet,
		mtu: number,
		node: NodeConfig,
	): void {
		const packet = frame.subarray(l3, l3 + length);
		const id = identification || packet.readUInt16BE(4) || randomInt(1, 0x10000);
		const fragments = fragmentIpv4(packet, mtu, id);
		if (!fragments)
			throw new Error(`Cannot fragment a packet: expected room for 8 bytes, got an MTU of ${mtu}`);
		for (const fragment of fragments) this.#delivery.send(fragment, node);
	}

	#hold(held: Held, node: NodeConfig): void {
		const { header } = held;
		const key = keyOf(held);
		const ports = this.#tables.fragment(key);
		if (ports !== undefined) this.#release(held, ports, node);
		else {
			const datagram = Object.values(key).join(" ");
			// A Pod's source address is checked; one from the wire can be forged.
			const isStranger = header.pod === 0;
			const source = isStranger ? key.source : `Pod ${header.pod}`;
			this.#held.hold(held, datagram, source, isStranger);
		}
	}

	/** from_pod has passed the packet itself to the Node, and a copy to the slow path. */
	#isPassedToNode(source: string, destination: string): boolean {
		const isOpen = this.#tables.endpoint(source)?.egressPolicy === EndpointPolicy.OPEN;
		return isOpen && routeOf(destination, this.#tables).kind === RouteKind.HOST;
	}

	/** Sends a held fragment on, or drops it. */
	#release({ packet, header }: Held, ports: Fragment, node: NodeConfig): void {
		const known = { ...packet, key: { ...packet.key, ...ports }, portsUnknown: false };
		const now = process.hrtime.bigint();
		const { hook, ifindex } = header;
		const entry = lookUp(known, this.#tables, node, now);
		const where = { hook, context: { ifindex, now }, node, tables: this.#tables };
		// Without a flow: its first fragment was dropped as well. A policy may have denied the flow meanwhile.
		if (entry === undefined || !mayGoOn(entry, where)) return;
		const change = translatedTuple(entry);
		const { destination } = change ?? known.key;
		const isServed = backendIdOf(entry.flow) !== 0;
		// The Node's own fragment: the Node's reassembly has it already. One of a Service's flow leaves as the flow does.
		const wasPassed =
			header.hook === Hook.FROM_POD
				? change === undefined && this.#isPassedToNode(packet.key.source, destination)
				: !isServed && this.#tables.endpoint(destination) === undefined;
		if (wasPassed || packet.ttl <= 1) return;
		if (change) translate(known, change);
		decrementTtl(known);
		const { frame, l3, length, family, dontFragment } = known;
		const fits = header.mtu === 0 || length <= header.mtu || family === 6 || dontFragment;
		if (fits) this.#delivery.send(frame.subarray(l3, l3 + length), node);
		else this.#sendFragments(known, header.mtu, node);
		this.counters.released++;
	}
}

/** Key in `fragments`, within its sender's share. */
function keyOf({ packet, header }: Held): FragmentKey {
	return fragmentKey(packet, header.hook === Hook.FROM_HOST ? FragmentOwner.HOST : header.pod);
}

/**
 * Parses a packet that starts at its IP header, with room for the Ethernet header that `parse` expects. A
 * packet that is only answered may be truncated.
 */
function parseIp(bytes: Buffer, { kind, length }: SlowPathHeader): Packet | undefined {
	if (bytes.length < length || length < 20) return undefined;
	const frame = Buffer.concat([Buffer.alloc(ETHERNET_HEADER), bytes]);
	const type = bytes[0]! >> 4 === 6 ? Ethertype.IPV6 : Ethertype.IPV4;
	const isAnswered = kind !== SlowPathKind.FRAGMENT && kind !== SlowPathKind.HOLD;
	return parse(frame, ETHERNET_HEADER, type, { quoted: isAnswered });
}
