/** How many flows the table holds: the core counts them for each Pod, and for the Node. */
import type { BpfMap } from "#native";
import { FlowCount } from "../../tables/generated.js";

/**
 * Slots in use, expired flows included: nothing removes them before their room is needed.
 *
 * @param counts flow_counts
 */
export function flowsInUse(counts: BpfMap): number {
	const { values } = counts.entries();
	let used = 0;
	for (let at = 0; at < values.length; at += FlowCount.size)
		used += FlowCount.decode(values, at).flows;
	return used;
}
