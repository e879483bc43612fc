/** What a bench has made is removed in reverse order: at its end, when it fails, on Ctrl-C. */
import { isInterrupted, onInterrupt } from "../../src/lab/interrupt.js";

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

/** Runs a bench so that nothing is left of it. */
export async function bench(run: () => Promise<void>): Promise<void> {
	try {
		await run();
	} catch (error) {
		// What fails after a Ctrl-C fails because it is being removed; the process ends with that.
		if (isInterrupted()) return await new Promise(() => undefined);
		throw error;
	} finally {
		await cleanUp();
	}
}
