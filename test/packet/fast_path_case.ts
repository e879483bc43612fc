/** The effect of a change on a known flow, as a row of a table. */
import type { Test } from "tap";
import type { Input } from "./check.js";
import type { Expected, Node } from "./fast_path.js";

export interface Case {
	shows: string;
	/** Prepares the Node before the flow begins. */
	prepare?: (node: Node) => void;
	/** Packets that establish a flow in an empty flow table. */
	start: Input[];
	/** The flow's next packet. */
	packet: Input;
	before: Expected;
	change: (node: Node) => void | Promise<void>;
	after: Expected;
	/** Another packet affected by the change. */
	also?: [Input, Expected];
}

async function run(node: Node, known: Case): Promise<void> {
	const { prepare, start, packet, before, change, after, also } = known;
	await node.begin();
	prepare?.(node);
	for (const input of start) await node.send(input);
	await node.onFastPath(packet, before);
	await change(node);
	await node.expect(packet, after);
	if (also) await node.expect(...also);
	// State learned meanwhile does not let it through either.
	if ("drop" in after) await node.expect(packet, after);
	else if ("frame" in after) await node.onFastPath(packet, after);
}

/** Runs cases, one subtest each. */
export function runCases(t: Test, node: Node, name: string, cases: readonly Case[]): void {
	for (const one of cases)
		t.test(`${name}: ${one.shows}`, async (t) => {
			await run(node, one);
			t.pass("the next packet, and the ones after it");
		});
}
