/**
 * Whether a socket of this namespace would receive a packet. The programs use bpf_sk_lookup; this reads
 * /proc/net.
 */
import { readFileSync } from "node:fs";
import { familyOf, parseAddress } from "../tables/address.js";
import type { FlowKey } from "../tables/generated.js";

const TCP = 6;
const UDP = 17;
const TCP_LISTEN = 0x0a;

interface Socket {
	/** Hexadecimal, network order; all zero: any. */
	local: string;
	localPort: number;
	remote: string;
	remotePort: number;
	state: number;
}

/** A search for a free port queries a hundred ports in one go: a file is read once for all of them. */
const KEEP_MS = 100;

export class NodeSockets {
	readonly #read: (file: string) => string;
	readonly #kept = new Map<string, { until: number; byPort: Map<number, Socket[]> }>();

	/** @param read the text of /proc/net/FILE; throws if there is no such file */
	constructor(read = (file: string) => readFileSync(`/proc/self/net/${file}`, "utf8")) {
		this.#read = read;
	}

	/** The key is the packet's: its destination is the socket's local address. */
	has(key: FlowKey): boolean {
		return this.#candidates(key).some((socket) => {
			if (isOpen(socket)) return key.protocol === UDP || socket.state === TCP_LISTEN;
			return isWith(socket, key);
		});
	}

	/** True if one of them is connected with the packet's sender. */
	isConnected(key: FlowKey): boolean {
		return this.#candidates(key).some((socket) => !isOpen(socket) && isWith(socket, key));
	}

	/** Those with the packet's destination. */
	#candidates(key: FlowKey): Socket[] {
		const name = key.protocol === TCP ? "tcp" : key.protocol === UDP ? "udp" : undefined;
		if (name === undefined) return [];
		const own = hex(key.destination);
		// An IPv6 socket bound to any address, or to a mapped one, receives IPv4 packets too.
		const files = familyOf(key.destination) === 4 ? [name, `${name}6`] : [`${name}6`];
		return files
			.flatMap((file) => this.#in(file).get(key.destinationPort) ?? [])
			.filter(({ local }) => isAny(local) || local === own);
	}

	/** By local port. */
	#in(file: string): Map<number, Socket[]> {
		const known = this.#kept.get(file);
		if (known !== undefined && known.until > performance.now()) return known.byPort;
		const byPort = new Map<number, Socket[]>();
		for (const socket of this.#socketsOf(file)) {
			const same = byPort.get(socket.localPort);
			if (same === undefined) byPort.set(socket.localPort, [socket]);
			else same.push(socket);
		}
		this.#kept.set(file, { until: performance.now() + KEEP_MS, byPort });
		return byPort;
	}

	#socketsOf(file: string): Socket[] {
		try {
			return parseSockets(this.#read(file));
		} catch {
			return []; // No IPv6 in this kernel.
		}
	}
}

/** Parses /proc/net/tcp: "sl local_address rem_address st ...", addresses as words in host byte order. */
export function parseSockets(text: string): Socket[] {
	return text
		.split("\n")
		.slice(1)
		.flatMap((line) => {
			const [, local, remote, state] = line.trim().split(/\s+/);
			if (local === undefined || remote === undefined || state === undefined) return [];
			const [localAddress = "", localPort = ""] = local.split(":");
			const [remoteAddress = "", remotePort = ""] = remote.split(":");
			return [
				{
					local: networkOrder(localAddress),
					localPort: Number.parseInt(localPort, 16),
					remote: networkOrder(remoteAddress),
					remotePort: Number.parseInt(remotePort, 16),
					state: Number.parseInt(state, 16),
				},
			];
		});
}

/** Converts to the 16 bytes of tables, with IPv4 mapped. */
function networkOrder(words: string): string {
	const bytes = Buffer.from(words, "hex").swap32().toString("hex");
	return bytes.length === 8 ? `${MAPPED}${bytes}` : bytes;
}

const MAPPED = "00000000000000000000ffff";

function hex(address: string): string {
	return parseAddress(address)?.toString("hex") ?? "";
}

/** It takes packets from any sender. */
function isOpen({ remote, remotePort }: Socket): boolean {
	return remotePort === 0 && isAny(remote);
}

function isWith({ remote, remotePort }: Socket, key: FlowKey): boolean {
	return remote === hex(key.source) && remotePort === key.sourcePort;
}

function isAny(address: string): boolean {
	return /^0+$/.test(address) || address === `${MAPPED}00000000`;
}
