/** Removes everything that a bench has made, in reverse order: at its end, if it fails, and on Ctrl-C. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { isInterrupted, onInterrupt } from "../../src/lab/interrupt.js";
import { run } from "../../src/lab/namespace.js";

type Undo = () => unknown;

const undos: Undo[] = [];
let caught = false;
let cleaning: Promise<void> | undefined;

/** Registers a function that is called once, also after a signal. */
export function atEnd(undo: Undo): void {
	if (!caught) onInterrupt(cleanUp);
	caught = true;
	undos.push(undo);
}

/** A call during a clean-up waits for that one. */
export function cleanUp(): Promise<void> {
	cleaning ??= undoAll().finally(() => (cleaning = undefined));
	return cleaning;
}

async function undoAll(): Promise<void> {
	for (let undo = undos.pop(); undo !== undefined; undo = undos.pop())
		try {
			await undo();
		} catch (error) {
			process.stderr.write(`${(error as Error).message}\n`);
		}
}

/**
 * Removes leftovers of killed benches: pins and namespaces that are named after a process that no
 * longer exists. Labs do the same for theirs.
 */
export async function sweep(): Promise<void> {
	const dead = (name: string): boolean => {
		const pid = /^(?:fairway-bench|fwB)-(\d+)\b/.exec(name)?.[1];
		return pid !== undefined && !existsSync(`/proc/${pid}`);
	};
	for (const name of readdirSync("/sys/fs/bpf").filter(dead))
		rmSync(`/sys/fs/bpf/${name}`, { recursive: true, force: true });
	for (const name of existsSync("/run/netns") ? readdirSync("/run/netns") : [])
		if (dead(name) && /-plain-|-kube$/.test(name))
			await run(["ip", "netns", "del", name], { mayFail: true });
}

/** Runs a bench and removes everything that it made. */
export async function bench(measure: () => Promise<void>): Promise<void> {
	await sweep();
	try {
		await measure();
	} catch (error) {
		// Errors after Ctrl-C come from the removal; the process exits when that is done.
		if (isInterrupted()) return await new Promise(() => undefined);
		throw error;
	} finally {
		await cleanUp();
	}
}
