/**
 * Packets from a peer's pod CIDR that come without a tunnel (ARCHITECTURE, Untunnelled packets): does the
 * peer send such, and has the peer sent this one?
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

/** XDP knows a few MACs of this Node, and leaves other frames to TC, where the kernel has looked. */
export function isForThisNode({ frame, context, node }: Draft, xdp: boolean): boolean {
	return xdp ? node.wireMacs.includes(macAt(frame, 0)) : context.otherHost !== true;
}

/** TC: has XDP stripped the tunnel that this frame came in? */
export function wasStripped({ frame, node }: Draft): boolean {
	return node.strippedMac !== 0n && macAt(frame, SOURCE) === node.strippedMac;
}

/** What TC knows the work of XDP by. */
export function markStripped({ node }: Draft, frame: Buffer): void {
	frame.writeUIntLE(Number(node.strippedMac), SOURCE, 6);
}

/** Undefined: nothing speaks against the packet. @param known its flow: the first packet was asked */
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
	if (xdp && !isProvenSender(draft, packet, peer)) return draft.pass("TC asks who has sent it");
	return refuseOfAnotherHost(draft, packet, peer);
}

/** Does this Node take untunnelled packets of the peer? */
export function sendsUntunnelled({ tables }: Draft, peer: number, family: 4 | 6): boolean {
	const flags = tables.peer(peerIndex(peer, family))?.flags ?? 0;
	return (flags & PeerFlag.TUNNELLED_ONLY) === 0;
}

/** It does, and will go on to do so. */
export function invitesUntunnelled({ tables }: Draft, peer: number, family: 4 | 6): boolean {
	const flags = tables.peer(peerIndex(peer, family))?.flags ?? 0;
	return (flags & (PeerFlag.TUNNELLED_ONLY | PeerFlag.ENDING)) === 0;
}

/** Where the peer is on this Node's link, its MAC tells whether it was the sender. */
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
	// 0: a device without ARP, on which nobody can tell.
	if (known === undefined ? tables.provenSender(index) === 0n : known === 0n || known === mac)
		return undefined;
	return draft.drop(DropReason.PEER_MAC_MISMATCH, `peer ${peer} has another MAC`);
}

/** Also where nobody can tell: behind a router every peer has the router's MAC. */
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
