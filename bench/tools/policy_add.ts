/** What ADD of a Pod takes on Nodes with and without policies: one process each, in turn. */
import { Namespace, run } from "../../src/lab/namespace.js";
import { attachPod, type CniCall, detachPod } from "../../src/lab/pod.js";
import { atEnd } from "./cleanup.js";
import type { Site } from "./site.js";

const ROUNDS = 60;

/** ms by site, without the first of each. Each time another sandbox of the site's first Pod, whose policies it has. */
export async function measureAdd(sites: readonly Site[]): Promise<number[][]> {
	const calls: Omit<CniCall, "verb">[] = [];
	for (const [place, site] of sites.entries()) {
		const name = `fwb-add-${process.pid}-${place}`;
		await run(["ip", "netns", "add", name]);
		atEnd(async () => void (await run(["ip", "netns", "del", name], { mayFail: true })));
		calls.push({
			...{ pod: site.lab.topology.pods[0]!, node: site.namespace("node1") },
			...{ target: new Namespace(name), socket: site.lab.agent("node1").socket },
		});
	}
	const times: number[][] = calls.map(() => []);
	for (let round = 0; round <= ROUNDS; round++)
		for (const [place, call] of calls.entries()) {
			const began = performance.now();
			await attachPod(call);
			if (round > 0) times[place]!.push(performance.now() - began);
			await detachPod(call);
		}
	return times;
}
