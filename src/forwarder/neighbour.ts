/**
 * ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) of Pods. The Node learns a neighbour from each of these
 * packets, so they may name only the Pod's own addresses and MAC.
 */
import { MAC_SIZE, readAddress, readMac } from "../tables/address.js";
import { DropReason } from "../tables/generated.js";
import type { Draft } from "./draft.js";
import { ETHERNET_HEADER, type Packet, Protocol } from "./packet.js";
import { isLinkMulticast } from "./route.js";

const ARP_BODY = 28;
/** Ethernet and IPv4, with addresses of 6 and 4 bytes. */
const ARP_KIND = Buffer.from([0, 1, 8, 0, 6, 4]);
const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

const HOP_LIMIT = 255;
/** Solicitation and advertisement up to the target's end. */
const MESSAGE = 24;
const OPTION = 8;
const NdOption = { SOURCE: 1, TARGET: 2, NONCE: 14 } as const;
const NdType = { ROUTER_SOLICITATION: 133, SOLICITATION: 135, ADVERTISEMENT: 136, REDIRECT: 137 };
const GROUP_REPORTS = [131, 132, 143];

/** A Pod's ARP frame: an announcement or a question from its own address, or a probe for it. */
export function isOwnArp(draft: Draft): boolean {
	const { frame } = draft;
	if (frame.length < ETHERNET_HEADER + ARP_BODY) return false;
	const arp = frame.subarray(ETHERNET_HEADER);
	if (!arp.subarray(0, 6).equals(ARP_KIND)) return false;
	const operation = arp.readUInt16BE(6);
	if (operation !== ArpOperation.REQUEST && operation !== ArpOperation.REPLY) return false;
	const mac = readMac(frame, MAC_SIZE);
	if (readMac(arp, 8) !== mac) return false;
	const isProbe = arp.readUInt32BE(14) === 0;
	if (isProbe && operation !== ArpOperation.REQUEST) return false;
	return isOwn(
		draft,
		arp
			.subarray(isProbe ? 24 : 14)
			.subarray(0, 4)
			.join("."),
		mac,
	);
}

export function isNeighbourDiscovery({ family, key, l4Type, isLaterFragment }: Packet): boolean {
	if (family === 4 || key.protocol !== Protocol.ICMPV6 || isLaterFragment) return false;
	return l4Type >= NdType.ROUTER_SOLICITATION && l4Type <= NdType.REDIRECT;
}

/** Reports of multicast groups teach the Node no neighbour, whatever their source is. */
export function isGroupReport(packet: Packet): boolean {
	const { key, l4Type, isFragment } = packet;
	if (key.protocol !== Protocol.ICMPV6 || isFragment) return false;
	return GROUP_REPORTS.includes(l4Type) && isLinkMulticast(packet);
}

/** Checks a Pod's neighbour discovery: enum drop_reason, NONE where it may pass to the Node's stack. */
export function checkNeighbourDiscovery(draft: Draft, packet: Packet): number {
	const { frame, l3, l4, key, l4Type } = packet;
	const isSolicitation = l4Type === NdType.SOLICITATION;
	if (!isSolicitation && l4Type !== NdType.ADVERTISEMENT) return DropReason.ROUTER_DISCOVERY;
	const length = packet.length - (l4 - l3);
	if (packet.ttl !== HOP_LIMIT || packet.isFragment) return DropReason.SPOOFED_NEIGHBOUR;
	if (length !== MESSAGE && length !== MESSAGE + OPTION) return DropReason.SPOOFED_NEIGHBOUR;
	const { gatewayAddress6 } = draft.node;
	if (!isLinkMulticast(packet) && key.destination !== gatewayAddress6)
		return DropReason.SPOOFED_NEIGHBOUR;
	const mac = readMac(frame, MAC_SIZE);
	const isProbe = isSolicitation && key.source === "";
	const option = frame.subarray(l4 + MESSAGE, l3 + packet.length);
	if (option.length > 0 && !isOwnOption(option, mac, isSolicitation, isProbe))
		return DropReason.SPOOFED_NEIGHBOUR;
	if (frame[l4 + 1] !== 0) return DropReason.SPOOFED_NEIGHBOUR;
	const target = readAddress(frame, l4 + 8);
	const isLinkLocalTarget = (frame.readUInt16BE(l4 + 8) & 0xffc0) === 0xfe80;
	const isAllowed = isProbe
		? isLinkLocalTarget || isOwn(draft, target, mac)
		: isOwn(draft, key.source, mac) &&
			((isSolicitation && target === gatewayAddress6) || isOwn(draft, target, mac));
	return isAllowed ? DropReason.NONE : DropReason.SPOOFED_NEIGHBOUR;
}

function isOwnOption(option: Buffer, mac: string, isSolicitation: boolean, isProbe: boolean) {
	if (option[1] !== 1) return false;
	if (option[0] === NdOption.NONCE) return true;
	const wanted = isSolicitation ? NdOption.SOURCE : NdOption.TARGET;
	// Duplicate address detection has no source address, so the Node learns no MAC from it.
	return !isProbe && option[0] === wanted && readMac(option, 2) === mac;
}

function isOwn({ tables, context }: Draft, address: string, mac: string): boolean {
	const endpoint = tables.endpoint(address);
	return endpoint?.ifindex === context.ifindex && endpoint.mac === mac;
}
