/**
 * The dense index of a Pod (struct endpoint), under which the core's tables keep its state.
 */
import { Limit } from "../../tables/generated.js";

interface Indexed {
	/** Host side of the Pod's veth; "": the device no longer exists. */
	interface: string;
	/** 0 or absent: none yet. */
	index?: number;
}

/**
 * Assigns every interface an index from 1 to ENDPOINTS_MAX: the one that it has in `actual`, otherwise the
 * lowest that no entry of `actual` has. So a Pod keeps its index while the kernel knows it, and an index is
 * free again only after its last entry was removed. If no index is left, the interface is not in the result.
 *
 * @param wanted interface names; a name may occur several times
 * @param actual the content of the kernel
 */
export function endpointIndexes(
	wanted: Iterable<string>,
	actual: readonly Indexed[],
): Map<string, number> {
	const owner = new Map<number, string>();
	const indexes = new Map<string, number>();
	for (const { interface: name, index = 0 } of actual) {
		if (index < 1 || index > Limit.ENDPOINTS_MAX || owner.has(index)) continue;
		owner.set(index, name);
		if (name !== "" && !indexes.has(name)) indexes.set(name, index);
	}
	let next = 1;
	const given = new Map<string, number>();
	for (const name of wanted) {
		if (given.has(name)) continue;
		const known = indexes.get(name);
		while (known === undefined && owner.has(next)) next++;
		const index = known ?? next;
		if (index > Limit.ENDPOINTS_MAX) continue;
		if (known === undefined) owner.set(next, name);
		given.set(name, index);
	}
	return given;
}
