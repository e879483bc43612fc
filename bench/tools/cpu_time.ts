/** CPU time of the kernel's softirq threads, in nanoseconds. */
import { readdirSync, readFileSync } from "node:fs";

const threads: string[] = [];

/** The softirq time of all CPUs, or of one. */
export function softirqTime(cpu?: number): number {
	if (threads.length === 0) threads.push(...find());
	let sum = 0;
	for (const [number, pid] of threads.entries())
		if (cpu === undefined || number === cpu)
			sum += Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ", 1)[0]);
	return sum;
}

/** Pids of ksoftirqd by CPU. */
function find(): string[] {
	const found: string[] = [];
	for (const entry of readdirSync("/proc")) {
		if (!/^\d+$/.test(entry)) continue;
		try {
			const name = readFileSync(`/proc/${entry}/comm`, "utf8");
			const cpu = /^ksoftirqd\/(\d+)\n$/.exec(name)?.[1];
			if (cpu !== undefined) found[Number(cpu)] = entry;
		} catch {
			// The process has exited since.
		}
	}
	return found;
}
