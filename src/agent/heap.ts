/** Limits the garbage in the agent's heap, and the pauses that collecting it takes. */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { trimMemory } from "#native";

/**
 * Growth since the last collection in percent of the live heap; V8's default is up to 300. While the agent starts
 * almost all that is allocated stays, and collecting it again and again was a third of the time.
 */
const GROWTH = { starting: 50, running: 20 };

/** Bytes of a heap whose collection is a short pause, even if all of it is one. */
const SMALL = 32 << 20;
const FIT_MS = 10_000;
const TRIM_MS = 10_000;

/**
 * Call before much is allocated. The agent is idle for most of the time, so the time that V8 saves by collecting
 * rarely is not worth memory that stays resident for days. (bin/fairway limits the young generation, which is
 * not possible from inside.)
 *
 * Young objects are collected by the agent's own thread alone: where other work keeps the CPUs busy, waiting
 * for V8's helper threads makes a pause of 1 ms one of 20.
 */
export function keepHeapSmall(): void {
	setFlagsFromString(`--heap-growing-percent=${GROWTH.starting}`);
	setFlagsFromString("--no-parallel-scavenge");
}

/**
 * Call when all long-lived data exists. Flags follow the heap's size from then on, which may grow much later: the
 * first policy with a selector brings all Pods.
 */
export function keepHeapSmaller(): void {
	setFlagsFromString(`--heap-growing-percent=${GROWTH.running}`);
	const fit = () => setFlagsFromString(sizeFlag(getHeapStatistics().used_heap_size));
	fit();
	setInterval(fit, FIT_MS).unref();
}

/**
 * Without --optimize-for-size the heap may grow by 8 MB at least before it is collected, however few percent were asked
 * for; with it by 2. But with it V8 lets the heap grow no further while it marks what lives: allocation waits for
 * marking to end, 70 to 190 ms where 150 MB live, and 2 to 12 ms without. A large heap may grow by 8 MB anyway.
 *
 * @param used bytes
 */
export function sizeFlag(used: number): string {
	return used < SMALL ? "--optimize-for-size" : "--no-optimize-for-size";
}

/**
 * Data received at the start leaves holes between data that stays, some 8 MB with 1,000 Nodes. To find them
 * and give back takes two milliseconds, and where there are none a tenth of one.
 */
export function trimRegularly(): void {
	setInterval(trimMemory, TRIM_MS).unref();
}
