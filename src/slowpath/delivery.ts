/**
 * Sends the packets that the slow path makes:
 *
 *  a Pod of this Node   a frame out of the host side of its veth
 *  the Node itself      an IP packet by the Node's own stack
 *  anywhere else        a frame out of fairway0, where from_host finds the path or the next hop
 *
 * Frames, because a packet from an IP socket passes the Node's output chain and connection tracking, which has not
 * seen the Pod's flow: it takes an ICMP error about the flow for invalid, and collects fragments of a datagram whose
 * other fragments went by eBPF. Packets to the Node itself belong to connections that its tracking knows.
 */
import { PacketSender } from "#native";
import type { TableReader } from "../forwarder/forwarder.js";
import { ETHERNET_HEADER, Ethertype } from "../forwarder/packet.js";
import { routeOf } from "../forwarder/route.js";
import { FIXED_MAC } from "../forwarder/tunnel.js";
import { MAC_SIZE, readAddress, writeMac } from "../tables/address.js";
import { type NodeConfig, RouteKind } from "../tables/generated.js";

export class Delivery {
	readonly #tables: TableReader;
	readonly #sender = new PacketSender();

	constructor(tables: TableReader) {
		this.#tables = tables;
	}

	/**
	 * @param packet from its IP header on
	 * @throws BpfError when the kernel does not take it
	 */
	send(packet: Buffer, node: NodeConfig): void {
		const destination =
			packet[0]! >> 4 === 6 ? readAddress(packet, 24) : packet.subarray(16, 20).join(".");
		const endpoint = this.#tables.endpoint(destination);
		if (endpoint !== undefined) {
			const frame = frameOf(packet, endpoint.mac);
			writeMac(frame, MAC_SIZE, node.gatewayMac);
			this.#sender.sendFrame(frame, endpoint.ifindex);
		} else if (routeOf(destination, this.#tables).kind === RouteKind.HOST) {
			this.#sender.sendPacket(packet);
		} else {
			const frame = frameOf(packet, node.gatewayMac);
			// from_host recognises the slow path's frames by this source.
			FIXED_MAC.copy(frame, MAC_SIZE);
			this.#sender.sendFrame(frame, node.hostIfindex);
		}
	}

	close(): void {
		this.#sender.close();
	}
}

/** The packet behind an Ethernet header; its source MAC is the caller's. */
function frameOf(packet: Buffer, destination: string): Buffer {
	const frame = Buffer.allocUnsafe(ETHERNET_HEADER + packet.length);
	writeMac(frame, 0, destination);
	frame.writeUInt16BE(packet[0]! >> 4 === 6 ? Ethertype.IPV6 : Ethertype.IPV4, 12);
	packet.copy(frame, ETHERNET_HEADER);
	return frame;
}
