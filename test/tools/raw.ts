/**
 * Packets as given, from their IP header on, out of a machine's own stack: no socket of UDP or TCP
 * would send these. A program of its own: `node --import=tsx raw.ts DESTINATION BASE64...`.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../src/lab/lab.js";
import { root } from "../../src/lab/repository.js";
import { familyOf } from "../../src/lab/subnet.js";

/** Sent in the order given. */
export async function sendRaw(
	lab: Lab,
	machine: string,
	destination: string,
	packets: readonly Buffer[],
): Promise<void> {
	const words = packets.map((packet) => packet.toString("base64"));
	const program = [process.execPath, "--import=tsx", fileURLToPath(import.meta.url)];
	await lab.run(machine, ["env", "-C", root, ...program, destination, ...words]);
}

/** A socket of this protocol takes the IP header from its user. */
const IPPROTO_RAW = 255;

async function main([destination = "", ...packets]: string[]): Promise<void> {
	const raw = createRequire(import.meta.url)("raw-socket");
	const { IPv4, IPv6 } = raw.AddressFamily;
	const addressFamily = familyOf(destination) === 4 ? IPv4 : IPv6;
	const socket = raw.createSocket({ protocol: IPPROTO_RAW, addressFamily });
	for (const text of packets) {
		const packet = Buffer.from(text, "base64");
		await new Promise<void>((resolve, reject) =>
			socket.send(packet, 0, packet.length, destination, (error: Error | null) =>
				error ? reject(error) : resolve(),
			),
		);
	}
	socket.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
