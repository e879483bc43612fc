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

/** The key is the packet's: its destination is the socket's local side. */
export function hasSocket(key: FlowKey): boolean {
	const name = key.protocol === TCP ? "tcp" : key.protocol === UDP ? "udp" : undefined;
	if (name === undefined) return false;
	const own = hex(key.destination);
	const other = hex(key.source);
	return socketsOf(name, familyOf(key.destination)).some((socket) => {
		if (socket.localPort !== key.destinationPort) return false;
		if (!isAny(socket.local) && socket.local !== own) return false;
		const open = socket.remotePort === 0 && isAny(socket.remote);
		if (open) return name === "udp" || socket.state === TCP_LISTEN;
		return socket.remote === other && socket.remotePort === key.sourcePort;
	});
}

/** An IPv6 socket that is bound to any address, or to a mapped one, also receives IPv4. */
function socketsOf(name: "tcp" | "udp", family: 4 | 6): Socket[] {
	const files = family === 4 ? [name, `${name}6`] : [`${name}6`];
	return files.flatMap((file) => {
		try {
			return parseSockets(readFileSync(`/proc/self/net/${file}`, "utf8"));
		} catch {
			return []; // No IPv6 in this kernel.
		}
	});
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

function isAny(address: string): boolean {
	return /^0+$/.test(address) || address === `${MAPPED}00000000`;
}
