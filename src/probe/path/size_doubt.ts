/** Whether a path still carries packets of the size that was proven, and whether it carries larger ones by now. Pure. */
import { isProven, isWhole, type PathState } from "./path_state.js";

/**
 * Missed requests of the current size. A tunnel that carries only the floor is never in doubt: nothing else is left.
 */
export function sizeDoubts(path: PathState): number {
	const { way, size, floor, fullMisses, sizeMisses } = path;
	if (size === floor && way === "tunnel") return 0;
	return isWhole(path) ? fullMisses : sizeMisses;
}

/** Large packets are lost: from now on, one missed request of the current size starts a search. */
export function suspectSize(path: PathState, now: number): void {
	if (!isProven(path) || path.search !== undefined) return;
	if (isWhole(path)) path.fullMisses = Math.max(path.fullMisses, 1);
	else path.sizeMisses = Math.max(path.sizeMisses, 1);
	path.fullAt = now;
}

/** The path may carry larger packets than before: the full size is probed at once. */
export function suspectGrowth(path: PathState, now: number): void {
	if (isProven(path) && !isWhole(path)) path.fullAt = now;
}
