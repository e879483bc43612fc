/**
 * Sends packets as given, from the IP header on, through a machine's stack: packets that no UDP or TCP
 * socket would send. Also a program: `node --import=tsx raw.ts BASE64...`.
 */
import { fileURLToPath } from "node:url";
import { PacketSender } from "#native";
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

function main(packets: string[]): void {
	const sender = new PacketSender();
	for (const text of packets) sender.sendPacket(Buffer.from(text, "base64"));
	sender.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
