/** Processes that send packets through the programs at the same time, each on a CPU of its own. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { possibleCpus } from "#native";
import { Hook } from "../../src/tables/generated.js";
import type { Burst, Sender } from "./concurrency_worker.js";
import type { DataPath } from "./data_path.js";
import * as world from "./world.js";

const CPUS_MAX = 4;

function onlineCpus(): number[] {
	const ranges = readFileSync("/sys/devices/system/cpu/online", "utf8").trim().split(",");
	return ranges.flatMap((range) => {
		const [first, last] = range.split("-").map(Number);
		return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i);
	});
}

/** Each with a Pod. */
export class Senders {
	readonly #workers: ChildProcess[];

	private constructor(workers: ChildProcess[]) {
		this.#workers = workers;
	}

	static async start(dataPath: DataPath, pins: string, pods: world.Pod[]): Promise<Senders> {
		mkdirSync(pins, { recursive: true });
		const programs = {
			fromPod: `${pins}/from_pod`,
			fromWire: `${pins}/from_wire`,
			fromHost: `${pins}/from_host`,
		};
		dataPath.pin(Hook.FROM_POD, programs.fromPod);
		dataPath.pin(Hook.FROM_WIRE, programs.fromWire);
		dataPath.pin(Hook.FROM_HOST, programs.fromHost);
		const workers = onlineCpus()
			.slice(0, CPUS_MAX)
			.map((cpu, i) => {
				const contexts = {
					fromPod: dataPath
						.context(world.indexOf(pods[i % pods.length]!.interface))
						.toString("hex"),
					fromWire: dataPath.context(world.indexOf("wire0")).toString("hex"),
					fromHost: dataPath.context(world.indexOf("fairway0")).toString("hex"),
				};
				const sender: Sender = { cpu, programs, contexts };
				const file = fileURLToPath(new URL("concurrency_worker.ts", import.meta.url));
				return fork(file, [JSON.stringify(sender)]);
			});
		const senders = new Senders(workers);
		await senders.#answers();
		return senders;
	}

	get count(): number {
		return this.#workers.length;
	}

	/** A burst on each CPU, at the same time. Resolves when all are over. */
	async send(burstOf: (sender: number) => Burst): Promise<void> {
		const over = this.#answers();
		for (const [i, worker] of this.#workers.entries()) worker.send(burstOf(i));
		await over;
	}

	async stop(): Promise<void> {
		const ended = Promise.all(this.#workers.map((worker) => once(worker, "exit")));
		for (const worker of this.#workers) worker.disconnect();
		await ended;
	}

	async #answers(): Promise<void> {
		await Promise.all(
			this.#workers.map(
				(worker) =>
					new Promise<void>((resolve, reject) => {
						const ended = (status: number | null) =>
							reject(new Error(`Cannot go on: a sender ended with status ${status}`));
						worker.once("exit", ended);
						worker.once("message", () => {
							worker.off("exit", ended);
							resolve();
						});
					}),
			),
		);
	}
}

/** A per-CPU counter, of all CPUs. */
export function total(dataPath: DataPath, map: string, index: number): bigint {
	const key = Buffer.alloc(4);
	key.writeUInt32LE(index);
	const values = dataPath.map(map).lookup(key)!;
	let sum = 0n;
	for (let cpu = 0; cpu < possibleCpus(); cpu++) sum += values.readBigUInt64LE(cpu * 8);
	return sum;
}
