/**
 * Duration of loss when a direct path fails under traffic: from the fault to the last lost packet, and
 * to the agents' failover to the tunnel.
 *
 *   bench/failover.ts [REPETITIONS]     default 15
 *
 *   pod1a ── node1 ── net1, the fault in it ── node2 ── pod2a
 *         1000 packets/s ──▶   ◀── echoes
 */
import { setTimeout as delay } from "node:timers/promises";
import { until } from "../src/lab/until.js";
import type { Cluster } from "../test/tools/cluster.js";
import type { Fault, Faults } from "../test/tools/faults.js";
import { costSince, now, Streams } from "../test/tools/streams.js";
import { bench } from "./tools/cleanup.js";
import { faultSite, pathEvents } from "./tools/fault_site.js";
import { publish, type Table } from "./tools/report.js";
import { quantile } from "./tools/statistics.js";

const repetitions = Number(process.argv[2] ?? 15);
const FAILOVER_MS = [1000, 500];
const RATE = 1000;

const FAULTS: Record<string, (faults: Faults) => Promise<Fault>> = {
	"source check, both ways": (faults) => faults.sourceCheck("all"),
	"black hole for Pods": (faults) => faults.blackhole("node1", { peer: "node2", what: "pods" }),
	"source check, one way": (faults) => faults.sourceCheck("node1"),
};

interface Cost {
	/** From the fault to the first packet after which all come back again, ms. */
	recovered: number;
	lost: number;
	/** From the fault to the change of path on the later of the two Nodes, ms. */
	changed: number;
}

await bench(async () => {
	const { cluster, faults } = await faultSite(settings(FAILOVER_MS[0]!));
	await cluster.serve("pod2a");
	const costs: Record<string, Cost[]> = {};
	for (const failoverTime of FAILOVER_MS) {
		await cluster.configure(settings(failoverTime));
		for (const [name, make] of Object.entries(FAULTS)) {
			const series: Cost[] = [];
			costs[`${failoverTime} ${name}`] = series;
			while (series.length < repetitions) series.push(await once(cluster, () => make(faults)));
		}
	}

	const table = (failoverTime: number): Table => ({
		title: `failoverTime ${failoverTime}: ms from the fault`,
		columns: ["", "to the last lost packet", "90 %", "max", "to the change of path", "90 %", "max"],
		rows: Object.keys(FAULTS).map((name) => {
			const series = costs[`${failoverTime} ${name}`] ?? [];
			const cells = (["recovered", "changed"] as const).flatMap((what) =>
				[0.5, 0.9, 1].map((share) =>
					quantile(
						series.map((cost) => cost[what]),
						share,
					).toFixed(0),
				),
			);
			return [name, ...cells];
		}),
	});
	publish({
		bench: "failover",
		method: `UDP from a Pod on node1 to one on node2 and back, ${RATE} packets/s, in examples/two-subnets; each fault ${repetitions} times, started at a random point of the probes' pace, after a second of traffic on the direct path. Medians, 90th percentiles and maxima. Time counts from before nft is started, which takes some 10 ms. holdTime 1.`,
		tables: FAILOVER_MS.map(table),
		data: costs,
	});
});

function settings(failoverTime: number) {
	return {
		trafficEncapMode: "hybrid" as const,
		// Otherwise a path that fails this often would be held down for minutes.
		probes: { failoverTime, holdTime: 1, holdTimeMax: 1 },
	};
}

async function once(cluster: Cluster, make: () => Promise<Fault>): Promise<Cost> {
	// The paths that both Nodes use.
	await cluster.settled();
	const streams = await Streams.start(cluster, [["pod1a", "pod2a", 4]], RATE);
	await delay(1000 + Math.random() * 500);
	const began = { at: now(), date: Date.now() };
	const fault = await make();
	const changes = await until("both Nodes take the tunnel", () =>
		changesSince(cluster, began.date),
	);
	await streams.echoed(200);
	const [cost] = costSince(await streams.stop(), began.at);
	await fault.undo();
	const changed = Math.max(...changes) - began.date;
	return { recovered: cost?.recoveredMs ?? Number.NaN, lost: cost?.lost ?? Number.NaN, changed };
}

/** When node1 and node2 left the direct path to each other, epoch ms; undefined: not both yet. */
async function changesSince(cluster: Cluster, date: number): Promise<number[] | undefined> {
	const times = await Promise.all(
		[
			["node1", "node2"],
			["node2", "node1"],
		].map(async ([node = "", peer]) => {
			const events = await pathEvents(cluster, node);
			const change = events.find(
				(event) =>
					event.node === peer &&
					event.family === 4 &&
					event.from === "direct" &&
					Date.parse(event.time) >= date,
			);
			return change === undefined ? undefined : Date.parse(change.time);
		}),
	);
	return times.every((time) => time !== undefined) ? times : undefined;
}
