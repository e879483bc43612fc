/**
 * A process on a CPU of its own that sends packets through a pinned program, as fast as it can. Each
 * message of the parent's is a burst; the answer is sent when it is over.
 */
import { execFileSync } from "node:child_process";
import { BpfProgram } from "#native";

export interface Sender {
	cpu: number;
	/** Where the programs of from_pod, from_wire (TC) and from_host are pinned. */
	programs: Record<SenderHook, string>;
	/** struct __sk_buff for each of them, hexadecimal. */
	contexts: Record<SenderHook, string>;
}

export type SenderHook = "fromPod" | "fromWire" | "fromHost";

export interface Burst {
	/** Sent one after the other, over and over; hexadecimal. */
	packets: { hook: SenderHook; frame: string }[];
	/** UDP or TCP ports of the Pod, network order in the frame: each packet sent gets the next one. */
	portOffset: number;
	firstPort: number;
	ports: number;
	count: number;
}

const { cpu, programs, contexts }: Sender = JSON.parse(process.argv[2]!);
execFileSync("taskset", ["--cpu-list", "--pid", `${cpu}`, `${process.pid}`], { stdio: "ignore" });

const open = {
	fromPod: BpfProgram.openPinned(programs.fromPod),
	fromWire: BpfProgram.openPinned(programs.fromWire),
	fromHost: BpfProgram.openPinned(programs.fromHost),
};
const context = {
	fromPod: Buffer.from(contexts.fromPod, "hex"),
	fromWire: Buffer.from(contexts.fromWire, "hex"),
	fromHost: Buffer.from(contexts.fromHost, "hex"),
};

process.on("message", ({ packets, portOffset, firstPort, ports, count }: Burst) => {
	const frames = packets.map(({ hook, frame }) => ({ hook, frame: Buffer.from(frame, "hex") }));
	for (let i = 0; i < count; i++) {
		const { hook, frame } = frames[i % frames.length]!;
		// The answer of a packet has the port at the other end's place, two bytes on.
		const offset = hook === "fromPod" ? portOffset : portOffset + 2;
		const port = firstPort + (Math.floor(i / frames.length) % ports);
		frame.writeUInt16BE(port, offset);
		open[hook].testRun({ data: frame, context: context[hook] });
	}
	process.send!("done");
});
process.on("disconnect", () => process.exit());
process.send!("ready");
