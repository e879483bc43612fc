/**
 * What network policy costs an agent at the limits of a cluster, stage by stage (tools/policy_agent.ts); bench/policy.ts
 * has it as a table.
 *
 *   unshare --net --mount --propagation private node --import=tsx bench/policy_agent.ts [--json]
 */
import { measureAgent } from "./tools/policy_agent.js";

const isJson = process.argv.includes("--json");

await measureAgent((stage) => {
	if (isJson) return console.log(JSON.stringify(stage));
	const { what, resident, peak, heap, outside, ms, cpu, longest, inForce } = stage;
	const after = inForce.map((one) => one.toFixed(0)).slice(0, 5);
	console.log(
		`${what}: ${ms.toFixed(0)} ms, CPU ${cpu.toFixed(0)}, longest piece ${longest.piece.toFixed(1)}, collection ${longest.collection.toFixed(1)}, in force after ${after}; ${resident.toFixed(0)} MB resident (peak ${peak.toFixed(0)}), heap ${heap.toFixed(0)}, outside ${outside.toFixed(0)}`,
	);
});
