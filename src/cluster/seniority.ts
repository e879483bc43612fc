/** Which of two objects was there first, by what they say of themselves, so that all agents agree. */
interface Dated {
	/** ms since the epoch. */
	created?: number;
	uid?: string;
}

/**
 * For sorting: negative when `a` is older. 0: they say no difference, or neither says when it was
 * created; one that does is older than one that does not.
 */
export function olderFirst(a: Dated | undefined, b: Dated | undefined): number {
	const [left, right] = [a?.created, b?.created];
	if (left === undefined || right === undefined) {
		if (left === right) return 0;
		return left === undefined ? 1 : -1;
	}
	if (left !== right) return left - right;
	const [x, y] = [a?.uid ?? "", b?.uid ?? ""];
	return x === y ? 0 : x < y ? -1 : 1;
}
