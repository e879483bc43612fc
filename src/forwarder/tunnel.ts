/**
 * Geneve (RFC 8926) and VXLAN (RFC 7348): writes the outer headers of sent packets and checks those of
 * received ones.
 */
import { writeMac } from "../tables/address.js";
import { DropReason, Limit, type NodeConfig, Path, type Peer } from "../tables/generated.js";
import { fold, sumWords, writeIpv4Checksum } from "./checksum.js";
import { hash } from "./flow_place.js";
import { ETHERNET_HEADER, Ethertype, isIp, type Packet, Protocol, parse } from "./packet.js";
import { setTrafficClass, wireAddress } from "./rewrite.js";

/** Destination MAC of every inner Ethernet header that Fairway writes. */
export const FIXED_MAC = Buffer.from([0x02, 0xfa, 0x1c, 0x00, 0x00, 0x01]);
const UDP_HEADER = 8;
const TUNNEL_HEADER = 8;
const SOURCE_PORT_FIRST = 49152;
const SOURCE_PORT_MASK = 0x3fff;

/** Ethertype of "Transparent Ethernet Bridging": an Ethernet frame inside. */
const ETHERNET = 0x6558;
const GENEVE_OAM = 0x80;
const GENEVE_CRITICAL = 0x40;
const VXLAN_VNI_FLAG = 0x08;

const Ecn = { NONE: 0, ECT1: 1, ECT0: 2, CE: 3 } as const;

/** Encapsulates a frame for `peer`. Its Ethernet header becomes the outer one. */
export function encapsulate(packet: Packet, peer: Peer, node: NodeConfig): Buffer {
	const inner = packet.frame.subarray(ETHERNET_HEADER);
	const udpLength = UDP_HEADER + TUNNEL_HEADER + ETHERNET_HEADER + inner.length;
	// Fragments have no ports to spread by, and all fragments of a packet must take the same path.
	const spread = hash(packet.key, node.flowHash, !packet.isFragment);
	const outer = Buffer.from(packet.frame.subarray(0, ETHERNET_HEADER));
	outer.writeUInt16BE(peer.outerFamily === 4 ? Ethertype.IPV4 : Ethertype.IPV6, 12);
	return Buffer.concat([
		outer,
		peer.outerFamily === 4
			? outerIpv4(peer, packet.trafficClass, udpLength)
			: outerIpv6(peer, packet.trafficClass, udpLength, spread),
		udp(SOURCE_PORT_FIRST + (spread & SOURCE_PORT_MASK), peer.port, udpLength),
		peer.path === Path.GENEVE ? geneve(peer.vni) : vxlan(peer.vni),
		innerEthernet(packet, node),
		inner,
	]);
}

/** DF is set and the identification is 0 (RFC 6864): tunnel packets must not be fragmented. */
function outerIpv4(peer: Peer, trafficClass: number, payload: number): Buffer {
	const header = Buffer.alloc(20);
	header[0] = 0x45;
	header[1] = trafficClass;
	header.writeUInt16BE((20 + payload) & 0xffff, 2);
	header.writeUInt16BE(0x4000, 6);
	header[8] = Limit.TUNNEL_TTL;
	header[9] = Protocol.UDP;
	wireAddress(4, peer.local).copy(header, 12);
	wireAddress(4, peer.remote).copy(header, 16);
	writeIpv4Checksum(header, 0);
	return header;
}

/** The flow label uses the same hash as the source port (RFC 6438). */
function outerIpv6(peer: Peer, trafficClass: number, payload: number, spread: number): Buffer {
	const header = Buffer.alloc(40);
	header.writeUInt32BE(6 * 2 ** 28 + trafficClass * 2 ** 20 + (spread & 0xfffff), 0);
	header.writeUInt16BE(payload & 0xffff, 4);
	header[6] = Protocol.UDP;
	header[7] = Limit.TUNNEL_TTL;
	wireAddress(6, peer.local).copy(header, 8);
	wireAddress(6, peer.remote).copy(header, 24);
	return header;
}

function innerEthernet(packet: Packet, node: NodeConfig): Buffer {
	const header = Buffer.alloc(ETHERNET_HEADER);
	FIXED_MAC.copy(header, 0);
	writeMac(header, 6, node.gatewayMac);
	header.writeUInt16BE(packet.family === 4 ? Ethertype.IPV4 : Ethertype.IPV6, 12);
	return header;
}

/** Without a checksum (RFC 6935, RFC 8926). */
function udp(source: number, destination: number, length: number): Buffer {
	const header = Buffer.alloc(UDP_HEADER);
	header.writeUInt16BE(source, 0);
	header.writeUInt16BE(destination, 2);
	header.writeUInt16BE(length & 0xffff, 4);
	return header;
}

function geneve(vni: number): Buffer {
	const header = Buffer.alloc(TUNNEL_HEADER);
	header.writeUInt16BE(ETHERNET, 2);
	header.writeUIntBE(vni, 4, 3);
	return header;
}

function vxlan(vni: number): Buffer {
	const header = Buffer.alloc(TUNNEL_HEADER);
	header[0] = VXLAN_VNI_FLAG;
	header.writeUIntBE(vni, 4, 3);
	return header;
}

export type TunnelKind = "geneve" | "vxlan";

/** A packet to this Node's own tunnel port: one from an unknown sender is refused. */
export function kindOfPort(port: number, node: NodeConfig): TunnelKind | undefined {
	if (port === 0) return undefined;
	if (port === node.genevePort) return "geneve";
	return port === node.vxlanPort ? "vxlan" : undefined;
}

/**
 * A tunnel packet from a peer to any other port: the peer may already use a new port or type. It is recognised by the
 * header that every Fairway Node writes: our VNI, no options, reserved bits zero, and the fixed MAC. Other tunnels
 * between the Nodes (flannel, Docker Swarm, EVPN) differ in that.
 */
export function kindOfHeader(packet: Packet, node: NodeConfig): TunnelKind | undefined {
	const header = tunnelHeader(packet);
	if (header === undefined || header.readUInt32BE(4) !== node.vni * 256) return undefined;
	if (!header.subarray(TUNNEL_HEADER, TUNNEL_HEADER + 6).equals(FIXED_MAC)) return undefined;
	const start = header.readUInt32BE(0);
	if (start === ETHERNET) return "geneve";
	return start === VXLAN_VNI_FLAG * 2 ** 24 ? "vxlan" : undefined;
}

/** Reserved bits are ignored (RFC 8926, 3.4). */
function isGeneve(header: Buffer): boolean {
	return header[0]! >> 6 === 0 && !(header[1]! & GENEVE_OAM) && header.readUInt16BE(2) === ETHERNET;
}

/**
 * True if a peer would take this packet of a Pod for a packet of this Node's tunnel: after SNAT its source is the
 * Node's address, and the peer's port may be one that this Node does not know yet.
 */
export function isForged(packet: Packet, destinationPort: number, node: NodeConfig): boolean {
	const { protocol } = packet.key;
	if (protocol !== Protocol.UDP || packet.isLaterFragment) return false;
	const iana: number[] = [Limit.GENEVE_PORT, Limit.VXLAN_PORT];
	if (iana.includes(destinationPort) || kindOfPort(destinationPort, node)) return true;
	const header = packet.frame.subarray(packet.l4 + UDP_HEADER);
	if (header.length < TUNNEL_HEADER || header.readUIntBE(4, 3) !== node.vni) return false;
	if (!isGeneve(header) && !(header[0]! & VXLAN_VNI_FLAG)) return false;
	const options = isGeneve(header) ? (header[0]! & 0x3f) * 4 : 0;
	const ethertype = TUNNEL_HEADER + options + 12;
	return header.length >= ethertype + 2 && isIp(header.readUInt16BE(ethertype));
}

/** The tunnel's header and, without options, the inner Ethernet header; undefined: cut short. */
function tunnelHeader({ frame, l3, l4, length }: Packet): Buffer | undefined {
	const offset = l4 + UDP_HEADER;
	const size = TUNNEL_HEADER + ETHERNET_HEADER;
	return offset + size > l3 + length ? undefined : frame.subarray(offset, offset + size);
}

const IPV4_HEADER_MAX = 60;

/** Checks the outer IPv4 header, which no stack has checked yet. A tunnel packet is longer than any header. */
function isChecksumRight({ frame, family, l3, l4 }: Packet): boolean {
	if (family === 6) return true;
	return frame.length >= l3 + IPV4_HEADER_MAX && fold(sumWords(frame.subarray(l3, l4))) === 0xffff;
}

/** A tunnel packet's inner packet, still in the outer frame, or the drop reason. */
export function innerPacket(
	outer: Packet,
	kind: TunnelKind,
	{ node, isBig }: { node: NodeConfig; isBig: boolean },
): { inner: Packet } | { reason: number; text: string } {
	const malformed = (text: string) => ({ reason: DropReason.TUNNEL_MALFORMED, text });
	const header = tunnelHeader(outer);
	if (header === undefined) return malformed("the tunnel header is cut short");
	if (!isChecksumRight(outer)) return malformed("the checksum of the outer IPv4 header is wrong");
	let length = TUNNEL_HEADER;
	if (kind === "geneve") {
		if (header[0]! >> 6 !== 0) return malformed(`Geneve version ${header[0]! >> 6}`);
		if (header[1]! & GENEVE_OAM) return malformed("a Geneve control packet");
		if (header.readUInt16BE(2) !== ETHERNET) return malformed("Geneve without Ethernet");
		if (header[1]! & GENEVE_CRITICAL) {
			return {
				reason: DropReason.TUNNEL_CRITICAL_OPTION,
				text: "a critical Geneve option, and Fairway knows none",
			};
		}
		length += (header[0]! & 0x3f) * 4;
	} else if ((header[0]! & VXLAN_VNI_FLAG) === 0) {
		return malformed("VXLAN without a VNI");
	}
	const vni = header.readUIntBE(4, 3);
	if (vni !== node.vni) {
		return { reason: DropReason.TUNNEL_BAD_VNI, text: `VNI ${vni}, not ${node.vni}` };
	}
	const { frame } = outer;
	const ethernet = outer.l4 + UDP_HEADER + length;
	if (ethernet + ETHERNET_HEADER > frame.length) return malformed("no inner Ethernet header");
	if (frame[ethernet]! & 0x01) return malformed("an inner multicast MAC");
	const ethertype = frame.readUInt16BE(ethernet + 12);
	if (!isIp(ethertype)) return malformed("neither IPv4 nor IPv6 inside");
	const inner = parse(frame, ethernet + ETHERNET_HEADER, ethertype, { big: isBig });
	if (inner === undefined || inner.l3 + inner.length > outer.l3 + outer.length) {
		return { reason: DropReason.MALFORMED, text: "the inner packet is malformed" };
	}
	return { inner };
}

/**
 * The inner packet after the outer Ethernet header, with the ECN that follows from both headers (RFC 6040,
 * section 4.2); undefined: congestion was marked on a packet without ECN support.
 */
export function decapsulate(outer: Packet, inner: Packet): Packet | undefined {
	const ecn = combineEcn(outer.trafficClass & 3, inner.trafficClass & 3);
	if (ecn === undefined) return undefined;
	const frame = Buffer.concat([
		outer.frame.subarray(0, 12),
		inner.frame.subarray(inner.l3 - 2, inner.l3),
		inner.frame.subarray(inner.l3),
	]);
	const stripped = { ...inner, frame, l3: ETHERNET_HEADER };
	stripped.l4 -= inner.l3 - ETHERNET_HEADER;
	if (ecn !== (inner.trafficClass & 3)) {
		setTrafficClass(stripped, (inner.trafficClass & ~3) | ecn);
	}
	return stripped;
}

function combineEcn(outer: number, inner: number): number | undefined {
	if (outer === Ecn.CE) return inner === Ecn.NONE ? undefined : Ecn.CE;
	return outer === Ecn.ECT1 && inner === Ecn.ECT0 ? Ecn.ECT1 : inner;
}
