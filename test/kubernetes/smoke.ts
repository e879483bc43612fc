/** Smoke tests of Fairway on the cluster: what its users notice first. */
import type { TAP } from "tap";
import type { Cluster } from "./cluster.js";
import { startOnEveryNode, unreachable } from "./pods.js";

export async function smokeTests(t: TAP, cluster: Cluster): Promise<void> {
	await t.test("Pods on all Nodes reach each other in both families", async (t) => {
		const pods = await startOnEveryNode(cluster, "every");
		t.strictSame(await unreachable(pods), []);
	});
}
