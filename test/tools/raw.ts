/**
 * Sends packets as given, from the IP header on, through a machine's stack: packets that no UDP or TCP
 * socket would send. Also a program: `node --import=tsx raw.ts BASE64...`.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../src/lab/lab.js";
import { root } from "../../src/lab/repository.js";

/** Sends the packets in the given order. */
export async function sendRaw(
	lab: Lab,
	machine: string,
	packets: readonly Buffer[],
): Promise<void> {
	const words = packets.map((packet) => packet.toString("base64"));
	const program = [process.execPath, "--import=tsx", fileURLToPath(import.meta.url)];
	await lab.run(machine, ["env", "-C", root, ...program, ...words]);
}

/** A socket of this protocol takes the IP header from its user. */
const IPPROTO_RAW = 255;

async function main(packets: string[]): Promise<void> {
	const raw = createRequire(import.meta.url)("raw-socket");
	const { IPv4, IPv6 } = raw.AddressFamily;
	const open = (addressFamily: number) =>
		raw.createSocket({ protocol: IPPROTO_RAW, addressFamily });
	const sockets = { 4: open(IPv4), 6: open(IPv6) };
	for (const text of packets) {
		const packet = Buffer.from(text, "base64");
		const family = (packet[0] ?? 0) >> 4 === 4 ? 4 : 6;
		const destination =
			family === 4
				? packet.subarray(16, 20).join(".")
				: (packet.subarray(24, 40).toString("hex").match(/..../g) ?? []).join(":");
		const socket = sockets[family];
		await new Promise<void>((resolve, reject) =>
			socket.send(packet, 0, packet.length, destination, (error: Error | null) =>
				error ? reject(error) : resolve(),
			),
		);
	}
	sockets[4].close();
	sockets[6].close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
