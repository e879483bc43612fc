/** How much garbage the agent's heap may hold before it is collected. */
import { setFlagsFromString } from "node:v8";

/** Of what was alive after the last collection, in percent; V8's own choice is up to 300. */
const GROWTH = 20;

/**
 * To be called before much is allocated. The agent computes everything anew at each change and is
 * idle in between, so what V8 would save by collecting seldom is not worth memory that stays
 * resident for days. (bin/fairway bounds the young generation, which cannot be done from inside.)
 */
export function keepHeapSmall(): void {
	setFlagsFromString(`--heap-growing-percent=${GROWTH}`);
}
