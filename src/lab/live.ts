/** Light traffic between all Nodes, and the agents' counters, redrawn every second. */
import { setTimeout as delay } from "node:timers/promises";
import type { PeerStatus } from "../api/messages/peers.js";
import { isInterrupted } from "./interrupt.js";
import type { Lab } from "./lab.js";
import { type PeerRow, peerRows, peerTable } from "./report.js";

const PORT = 5300;
/** Datagrams a second from each Node to each other Node, per family. */
const RATE = 50;

/** From the first Pod of each Node to the first Pod of every other. */
export async function startBackground(lab: Lab): Promise<void> {
	const firsts = lab.topology.nodes.flatMap(({ name }) => {
		const pod = lab.topology.pods.find(({ node }) => node === name);
		return pod !== undefined && lab.attachments.has(pod.label) ? [pod.label] : [];
	});
	const stations = new Map(
		await Promise.all(firsts.map(async (pod) => [pod, await lab.station(pod)] as const)),
	);
	for (const station of stations.values()) await station.order("udpServe", { port: PORT });
	for (const [from, station] of stations)
		for (const to of firsts)
			for (const family of [4, 6] as const)
				if (from !== to && lab.hasFamily(from, family) && lab.hasFamily(to, family))
					await station.order("udpStream", {
						host: lab.address(to, family),
						port: PORT,
						rate: RATE,
						size: 512,
					});
}

/** Draws until the process is interrupted: in place on a terminal, otherwise a table every ten seconds. */
export async function watchPeers(lab: Lab, terminal: boolean): Promise<void> {
	const period = terminal ? 1 : 10;
	let rows: PeerRow[] = [];
	let height = 0;
	let looked = performance.now();
	while (!isInterrupted()) {
		const peers = await peersOf(lab);
		if (isInterrupted()) return;
		const now = performance.now();
		rows = peerRows(peers, rows, (now - looked) / 1000);
		looked = now;
		const text = peerTable(rows, terminal);
		// Moves the cursor above the last table and clears everything below.
		if (terminal && height > 0) process.stdout.write(`\u001b[${height}A\u001b[J`);
		process.stdout.write(`${text}\n`);
		height = text.split("\n").length;
		await delay(period * 1000);
	}
}

/** Peers by Node. A Node whose agent does not answer has none. */
async function peersOf(lab: Lab): Promise<Map<string, PeerStatus[]>> {
	const answers = [...lab.agents].map(async ([node, agent]): Promise<[string, PeerStatus[]]> => {
		try {
			return [node, await agent.peers()];
		} catch {
			return [node, []];
		}
	});
	return new Map(await Promise.all(answers));
}
