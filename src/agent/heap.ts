/** Limits the garbage in the agent's heap. */
import { setFlagsFromString } from "node:v8";

/** Growth since the last collection in percent of the live heap; V8's default is up to 300. */
const GROWTH = 20;

/**
 * Call before much is allocated. The agent recomputes everything at each change and is idle in between, so the
 * time that V8 saves by collecting rarely is not worth memory that stays resident for days. (bin/fairway
 * limits the young generation, which is not possible from inside.)
 */
export function keepHeapSmall(): void {
	setFlagsFromString(`--heap-growing-percent=${GROWTH}`);
}
