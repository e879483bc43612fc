/** What a bench has made is removed in reverse order: at its end, when it fails, on Ctrl-C. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { isInterrupted, onInterrupt } from "../../src/lab/interrupt.js";
import { run } from "../../src/lab/namespace.js";

type Undo = () => unknown;

const undos: Undo[] = [];
let caught = false;
let cleaning: Promise<void> | undefined;

/** Called once, also after a signal. */
export function atEnd(undo: Undo): void {
	if (!caught) onInterrupt(cleanUp);
	caught = true;
	undos.push(undo);
}

/** Whoever calls while it is under way waits for the same end. */
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
 * What benches have left that were killed: pins and namespaces named after a process that is no
 * more. Labs do the same for theirs.
 */
export async function sweep(): Promise<void> {
	const dead = (name: string): boolean => {
		const pid = /^(?:fairway-bench|fwB)-(\d+)\b/.exec(name)?.[1];
		return pid !== undefined && !existsSync(`/proc/${pid}`);
	};
	for (const name of readdirSync("/sys/fs/bpf").filter(dead))
		rmSync(`/sys/fs/bpf/${name}`, { recursive: true, force: true });
	for (const name of existsSync("/run/netns") ? readdirSync("/run/netns") : [])
		if (dead(name) && name.includes("-plain-"))
			await run(["ip", "netns", "del", name], { mayFail: true });
}

/** Runs a bench so that nothing is left of it. */
export async function bench(measure: () => Promise<void>): Promise<void> {
	await sweep();
	try {
		await measure();
	} catch (error) {
		// What fails after a Ctrl-C fails because it is being removed; the process ends with that.
		if (isInterrupted()) return await new Promise(() => undefined);
		throw error;
	} finally {
		await cleanUp();
	}
}
