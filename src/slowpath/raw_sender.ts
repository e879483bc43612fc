/**
 * Sends packets from their IP header on, source address included, through raw sockets of protocol
 * IPPROTO_RAW: for both families the kernel takes these as packets with their own header
 * (inet_create and inet6_create set `hdrincl` for that protocol). The kernel's routes decide where
 * they go; for IPv4 it writes the header checksum, and an identification of 0 anew.
 */
import raw, { type Socket } from "raw-socket";
import { readAddress } from "../tables/address.js";

const IPPROTO_RAW = 255;
/** Packets that may wait for the socket; the rest is refused. */
const QUEUE_MAX = 1024;

export class RawSender {
	readonly #sockets = new Map<4 | 6, Socket>();
	readonly #onError: (error: Error) => void;
	#waiting = 0;

	/** @param onError a packet that could not be sent; the sender goes on */
	constructor(onError: (error: Error) => void) {
		this.#onError = onError;
	}

	send(packet: Buffer): void {
		const family = packet[0]! >> 4 === 6 ? 6 : 4;
		if (this.#waiting >= QUEUE_MAX) {
			this.#onError(new Error(`Cannot send a packet: ${QUEUE_MAX} others are waiting`));
			return;
		}
		this.#waiting++;
		try {
			const destination =
				family === 6 ? readAddress(packet, 24) : packet.subarray(16, 20).join(".");
			this.#socket(family).send(packet, 0, packet.length, destination, (error) => {
				this.#waiting--;
				if (error)
					this.#onError(new Error(`Cannot send a packet to ${destination}: ${error.message}`));
			});
		} catch (error) {
			this.#waiting--;
			this.#onError(error instanceof Error ? error : new Error(String(error)));
		}
	}

	close(): void {
		for (const socket of this.#sockets.values()) socket.close();
		this.#sockets.clear();
	}

	/** Opened with the first packet of its family: a Node may be without IPv6. */
	#socket(family: 4 | 6): Socket {
		const open = this.#sockets.get(family);
		if (open) return open;
		const addressFamily = family === 4 ? raw.AddressFamily.IPv4 : raw.AddressFamily.IPv6;
		const socket = raw.createSocket({ protocol: IPPROTO_RAW, addressFamily });
		// Without a listener an error would end the process; the package closes the socket itself.
		socket.on("error", (error) => {
			this.#sockets.delete(family);
			this.#onError(error);
		});
		// A socket of this protocol receives nothing.
		socket.pauseRecv();
		this.#sockets.set(family, socket);
		return socket;
	}
}
