/** Traffic of every kind while something happens to the cluster. */
import type { Test } from "tap";
import type { Cluster } from "./cluster.js";
import { Connection, Requests, serveEcho } from "./connections.js";
import { Stream, startOnEveryNode, type TestPod } from "./pods.js";
import { serviceAddress, startService } from "./services.js";

/** A Pod `every` on each Node, and their Service of the same name, of type LoadBalancer. */
export async function startServed(cluster: Cluster): Promise<TestPod[]> {
	const pods = await startOnEveryNode(cluster, "every");
	await startService(cluster, "every", "LoadBalancer");
	for (const pod of pods) await serveEcho(pod);
	return pods;
}

/**
 * Streams of 1,000 packets a second, within the subnet and across, lose nothing while `disturb` runs; the Service
 * `every` of these Pods answers every new connection, and those that are open live.
 *
 * @param pods one on each Node; n1 and n2 are in one subnet, n3 in the other
 */
export async function underTraffic(
	t: Test,
	cluster: Cluster,
	pods: readonly TestPod[],
	disturb: () => Promise<unknown>,
): Promise<void> {
	const podOn = (node: string): TestPod => pods.find((pod) => pod.node === node)!;
	const [v4 = "", v6 = ""] = await serviceAddress(cluster, "every");
	const streams = await Promise.all([
		Stream.start(podOn("n1"), podOn("n2"), 4),
		Stream.start(podOn("n2"), podOn("n3"), 6),
	]);
	const requests = await Promise.all([
		Requests.start(podOn("n1"), v4),
		Requests.start(podOn("n3"), v6),
	]);
	const connections = await Promise.all([
		Connection.open(podOn("n3"), v4),
		Connection.open(podOn("n1"), v6),
	]);
	try {
		await disturb();
	} finally {
		for (const stream of streams) {
			const { sent, lost } = await stream.end();
			t.ok(sent > 100 && lost === 0, `${lost} of ${sent} packets lost`);
		}
		for (const client of requests) {
			const { sent, failures } = await client.end();
			t.strictSame(failures, [], `${failures.length} of ${sent} requests to the Service failed`);
		}
		for (const connection of connections) {
			const { error, received, longestGapMs } = await connection.end();
			const title = `a connection to the Service lives: ${received} bytes, at most ${longestGapMs} ms between two`;
			t.ok(error === null && received > 100, title, { error });
		}
	}
}
