/**
 * Packets from a peer's pod CIDR that come without a tunnel (ARCHITECTURE, Untunnelled packets): may the peer send
 * them, and did the peer send this one?
 */
import { macWord } from "../tables/address.js";
import { DropReason, Path, PeerFlag, ProbeWay } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { neighbourMac, peerQuery } from "./next_hop.js";
import type { Packet } from "./packet.js";
import { peerIndex } from "./route.js";
import type { FlowEntry } from "./table_reader.js";

const SOURCE = 6;

/** XDP knows a few MACs of this Node, and leaves other frames to TC, where the kernel has classified them. */
export function isForThisNode({ frame, context, node }: Draft, xdp: boolean): boolean {
	return xdp ? node.wireMacs.includes(macAt(frame, 0)) : context.otherHost !== true;
}

/** TC: true if XDP has stripped the tunnel that this frame came in. */
export function wasStripped({ frame, node }: Draft): boolean {
	return node.strippedMac !== 0n && macAt(frame, SOURCE) === node.strippedMac;
}

/** Marks a frame that XDP has decapsulated, for TC. */
export function markStripped({ node }: Draft, frame: Buffer): void {
	frame.writeUIntLE(Number(node.strippedMac), SOURCE, 6);
}

/** Undefined: the packet is accepted. @param known its flow: only the first packet is checked */
export function refuseUntunnelled(
	draft: Draft,
	packet: Packet,
	peer: number,
	{ known, xdp }: { known: FlowEntry | undefined; xdp: boolean },
): Decision | undefined {
	if (!sendsUntunnelled(draft, peer, packet.family)) {
		const why = `peer ${peer} sends Pod packets in tunnels only`;
		return draft.drop(DropReason.UNTUNNELLED, why);
	}
	if (known !== undefined && !packet.icmpError) return undefined;
	if (xdp && !isProvenSender(draft, packet, peer)) return draft.pass("TC checks the sender");
	return refuseOfAnotherHost(draft, packet, peer);
}

/** True if this Node accepts untunnelled packets of the peer. */
export function sendsUntunnelled({ tables }: Draft, peer: number, family: 4 | 6): boolean {
	const flags = tables.peer(peerIndex(peer, family))?.flags ?? 0;
	return (flags & PeerFlag.TUNNELLED_ONLY) === 0;
}

/** True if it does, and no change of mode is announced. */
export function invitesUntunnelled({ tables }: Draft, peer: number, family: 4 | 6): boolean {
	const flags = tables.peer(peerIndex(peer, family))?.flags ?? 0;
	return (flags & (PeerFlag.TUNNELLED_ONLY | PeerFlag.ENDING)) === 0;
}

/** Where the peer is on this Node's link, the source MAC shows whether the peer sent the packet. */
export function refuseOfAnotherHost(
	draft: Draft,
	packet: Packet,
	peer: number,
): Decision | undefined {
	const { tables, frame } = draft;
	if (isProvenSender(draft, packet, peer)) return undefined;
	const index = directIndex(packet, peer);
	const answer = tables.fib(peerQuery(draft, tables.peerPath(index)!, false));
	const neighbour = answer.kind === "forward" ? neighbourMac(answer) : undefined;
	const mac = macAt(frame, SOURCE);
	const known = neighbour === undefined ? undefined : macWord(neighbour);
	// 0: a device without ARP, where the sender cannot be told.
	if (known === undefined ? tables.provenSender(index) === 0n : known === 0n || known === mac)
		return undefined;
	return draft.drop(DropReason.PEER_MAC_MISMATCH, `peer ${peer} has another MAC`);
}

/** True also where the sender cannot be told: behind a router every peer has the router's MAC. */
function isProvenSender({ tables, frame }: Draft, packet: Packet, peer: number): boolean {
	const index = directIndex(packet, peer);
	if (tables.peerPath(index)?.path !== Path.DIRECT) return true;
	const proven = tables.provenSender(index);
	return proven !== 0n && proven === macAt(frame, SOURCE);
}

function directIndex({ family }: Packet, peer: number): number {
	return peerIndex(peer, family) * 2 + ProbeWay.DIRECT;
}

function macAt(frame: Buffer, offset: number): bigint {
	return BigInt(frame.readUIntLE(offset, 6));
}
