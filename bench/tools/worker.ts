/**
 * The generator's process: pinned to one CPU, it sends on request and measures the cost. It reads orders
 * from standard input and answers on standard output, one JSON line each, and ends with its input.
 *
 *   worker.ts PIN-DIRECTORY CPU
 *
 * All the work for a packet, from the generator to the sink, happens in softirqs of this CPU: some in
 * this thread, when a batch ends, the rest in ksoftirqd. The cost is the CPU time of both. At the end of
 * a run, the process waits for packets in flight.
 */
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap, BpfProgram } from "#native";
import { softirqTime } from "./cpu_time.js";

const LIVE_FRAMES = 2;
const BATCH = 64;

export interface Order {
	id: number;
	program: "generate" | "generate_only";
	/** base64 */
	pattern: string;
	/** base64 */
	frame: string;
	frames: number;
}

export interface Answer {
	id: number;
	sent: number;
	received: number;
	/** Of them, on another CPU than the generator's: their cost is not in `cpu`. */
	elsewhere: number;
	/** CPU time of this thread and ksoftirqd together, ns. */
	cpu: number;
	/** Nanoseconds until the last frame was sent. */
	elapsed: number;
	error?: string;
}

const [pins = "", cpu = "0"] = process.argv.slice(2);
const programs = {
	generate: BpfProgram.openPinned(`${pins}/generate`),
	generate_only: BpfProgram.openPinned(`${pins}/generate_only`),
};
const patterns = BpfMap.openPinned(`${pins}/patterns`);
const sink = BpfMap.openPinned(`${pins}/received`);
const zero = Buffer.alloc(4);
/** Packets at the sinks; `here`: on the generator's CPU. */
function received(): { all: number; here: number } {
	const values = sink.lookup(zero) ?? Buffer.alloc(0);
	const counts = { all: 0, here: 0 };
	for (let i = 0; i < values.length; i += 8) {
		const count = Number(values.readBigUInt64LE(i));
		counts.all += count;
		if (i === 8 * Number(cpu)) counts.here = count;
	}
	return counts;
}

async function run({ id, program, pattern, frame, frames }: Order): Promise<Answer> {
	patterns.update(zero, Buffer.from(pattern, "base64"));
	const data = Buffer.from(frame, "base64");
	const before = {
		received: received(),
		softirqs: softirqTime(Number(cpu)),
		thread: process.cpuUsage(),
	};
	const start = process.hrtime.bigint();
	programs[program].testRun({ data, repeat: frames, flags: LIVE_FRAMES, batchSize: BATCH });
	const thread = process.cpuUsage(before.thread);
	const elapsed = Number(process.hrtime.bigint() - start);
	let seen = received();
	for (let quiet = 0; quiet < 3 && program === "generate"; quiet++) {
		await delay(1);
		const now = received();
		if (now.all !== seen.all) quiet = 0;
		seen = now;
	}
	const softirqs = softirqTime(Number(cpu)) - before.softirqs;
	const all = seen.all - before.received.all;
	return {
		id,
		sent: frames,
		received: program === "generate" ? all : frames,
		elsewhere: all - (seen.here - before.received.here),
		cpu: (thread.user + thread.system) * 1000 + softirqs,
		elapsed,
	};
}

createInterface({ input: process.stdin })
	.on("line", async (line) => {
		const order = JSON.parse(line) as Order;
		const answer = await run(order).catch((error: Error) => ({
			id: order.id,
			error: error.message,
		}));
		process.stdout.write(`${JSON.stringify(answer)}\n`);
	})
	.on("close", () => process.exit());
process.stdout.write('{"id":0}\n');
