/**
 * Sends packets from their IP header on, source address included, through raw sockets of protocol
 * IPPROTO_RAW: for both families the kernel takes these as packets with their own header
 * (inet_create and inet6_create set `hdrincl` for that protocol). The kernel's routes decide where
 * they go; for IPv4 it writes the header checksum, and an identification of 0 anew.
 *
 * The package's own queue takes one packet each turn of the event loop, with two system calls more.
 * So a packet is handed to the kernel at once, and waits only where that fails.
 */
import raw, { type Socket } from "raw-socket";
import { readAddress } from "../tables/address.js";

const IPPROTO_RAW = 255;
/** Packets that may wait for the socket; the rest is refused. */
const QUEUE_MAX = 1024;

/** linux/in.h, linux/in6.h: DF stays as it is, and what is known of a path's MTU is not asked. */
const MTU_PROBE = {
	4: { level: 0, option: 10, value: 3 }, // IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
	6: { level: 41, option: 23, value: 3 }, // IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE
} as const;

export interface RawSenderOptions {
	/** What is longer than the route's MTU is sent as it is, as far as the device takes it. */
	ignorePathMtu?: boolean;
}

interface Open {
	socket: Socket;
	/** Packets that it has not yet sent. */
	waiting: number;
}

export class RawSender {
	readonly #open = new Map<4 | 6, Open>();
	readonly #onError: (error: Error) => void;
	readonly #ignorePathMtu: boolean;

	/** @param onError a packet that could not be sent; the sender goes on */
	constructor(onError: (error: Error) => void, { ignorePathMtu = false }: RawSenderOptions = {}) {
		this.#onError = onError;
		this.#ignorePathMtu = ignorePathMtu;
	}

	send(packet: Buffer): void {
		const family = packet[0]! >> 4 === 6 ? 6 : 4;
		const destination = family === 6 ? readAddress(packet, 24) : packet.subarray(16, 20).join(".");
		try {
			const open = this.#socket(family);
			if (open.waiting === 0 && sentAtOnce(open, packet, destination)) return;
			if (open.waiting >= QUEUE_MAX) throw new Error(`${QUEUE_MAX} others are waiting`);
			open.waiting++;
			// Whoever has made it may make the next one in its place.
			open.socket.send(Buffer.from(packet), 0, packet.length, destination, (error) => {
				open.waiting--;
				if (error) this.#complain(destination, error);
			});
		} catch (error) {
			this.#complain(destination, error);
		}
	}

	close(): void {
		for (const { socket } of this.#open.values()) socket.close();
		this.#open.clear();
	}

	#complain(destination: string, cause: unknown): void {
		const reason = cause instanceof Error ? cause.message : String(cause);
		this.#onError(new Error(`Cannot send a packet to ${destination}: ${reason}`, { cause }));
	}

	/** Opened with the first packet of its family: a Node may be without IPv6. */
	#socket(family: 4 | 6): Open {
		const known = this.#open.get(family);
		if (known) return known;
		const addressFamily = family === 4 ? raw.AddressFamily.IPv4 : raw.AddressFamily.IPv6;
		const socket = raw.createSocket({ protocol: IPPROTO_RAW, addressFamily });
		if (this.#ignorePathMtu) {
			const { level, option, value } = MTU_PROBE[family];
			socket.setOption(level, option, value);
		}
		// Without a listener an error would end the process. The package closes the socket itself;
		// the next packet opens another.
		socket.on("error", (error) => {
			this.#open.delete(family);
			this.#onError(error);
		});
		// A socket of this protocol receives nothing.
		socket.pauseRecv();
		const open = { socket, waiting: 0 };
		this.#open.set(family, open);
		return open;
	}
}

/** False: the socket's buffer is full, or there is an error that another try will tell of. */
function sentAtOnce({ socket }: Open, packet: Buffer, destination: string): boolean {
	try {
		socket.wrap.send(packet, 0, packet.length, destination, () => undefined);
		return true;
	} catch {
		return false;
	}
}
