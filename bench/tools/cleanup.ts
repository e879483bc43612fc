/** What a bench has made is removed in reverse order: at its end, when it fails, on Ctrl-C. */
import { onInterrupt } from "../../src/lab/interrupt.js";

type Undo = () => unknown;

const undos: Undo[] = [];
let caught = false;

/** Called once, also after a signal. */
export function atEnd(undo: Undo): void {
	if (!caught) onInterrupt(cleanUp);
	caught = true;
	undos.push(undo);
}

export async function cleanUp(): Promise<void> {
	for (let undo = undos.pop(); undo !== undefined; undo = undos.pop())
		try {
			await undo();
		} catch (error) {
			process.stderr.write(`${(error as Error).message}\n`);
		}
}

/** Runs a bench so that nothing is left of it. */
export async function bench(run: () => Promise<void>): Promise<void> {
	try {
		await run();
	} finally {
		await cleanUp();
	}
}
