/**
 * Probing on a busy machine where nothing fails: other processes keep every core busy, traffic uses
 * every kind of path, and no path may change.
 *
 *   bench/quiet.ts [SECONDS]     default 600 when run by name, 60 among all; only 600 are recorded
 *
 * QUIET_SECONDS in the environment does the same.
 */
import { spawn } from "node:child_process";
import { cpus } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import type { Family } from "../src/lab/subnet.js";
import { Streams } from "../test/tools/streams.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { faultSite, pathEvents } from "./tools/fault_site.js";
import { publish } from "./tools/report.js";

const WHOLE = 600;
const named = process.env.BENCH_BY_NAME !== undefined;
const seconds = Number(process.argv[2] ?? process.env.QUIET_SECONDS ?? (named ? WHOLE : 60));
const RATE = 500;
const PAIRS: [string, string, Family][] = [
	["pod1a", "pod2a", 4],
	["pod1b", "pod2b", 6],
	["pod3a", "pod4a", 4],
	["pod1a", "pod3a", 4],
];

await bench(async () => {
	const { cluster } = await faultSite();
	const { lab } = cluster;
	await cluster.serve(...new Set(PAIRS.map(([, to]) => to)));
	const streams = await Streams.start(cluster, PAIRS, RATE);
	const began = Date.now();
	const before = await count();
	// At normal priority, like any other process on a Node.
	const hogs = cpus().map(() => spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" }));
	const end = () => {
		for (const hog of hogs) hog.kill("SIGKILL");
	};
	atEnd(end);
	await delay(seconds * 1000);
	const after = await count();
	end();
	const events = await Promise.all(
		[...lab.agents.keys()].map(async (node) =>
			(await pathEvents(cluster, node)).filter(({ time }) => Date.parse(time) >= began),
		),
	);
	const losses = await streams.stop();
	const since = (what: keyof typeof after) => after[what] - before[what];
	const sum = (what: "sent" | "lost" | "lostOnReturn") =>
		losses.reduce((all, loss) => all + loss[what], 0);
	const data = {
		seconds,
		changes: since("changes"),
		fallbacks: events.flat().filter(({ from, to }) => from === "direct" && to !== "direct").length,
		sent: since("sent"),
		answered: since("answered"),
		late: since("late"),
		packets: { sent: sum("sent"), lost: sum("lost") + sum("lostOnReturn") },
		events: events.flat(),
	};
	publish(
		{
			bench: "quiet",
			method: `examples/two-subnets without faults, for ${seconds} s: ${PAIRS.length} UDP streams of ${RATE} packets/s and back, and a busy loop for each core. Late answers arrived after their requests had timed out.`,
			tables: [
				{
					title: "All four agents",
					columns: ["", "count"],
					rows: [
						["path changes", `${data.changes}`],
						["of these, away from direct", `${data.fallbacks}`],
						["probes sent", `${data.sent}`],
						["answered", `${data.answered}`],
						["late", `${data.late}`],
						["Pod packets lost", `${data.packets.lost} of ${data.packets.sent}`],
					],
				},
			],
			data,
		},
		seconds < WHOLE,
	);

	async function count() {
		const sums = { sent: 0, answered: 0, late: 0, changes: 0 };
		for (const agent of lab.agents.values()) {
			const { probes } = await agent.status();
			for (const what of Object.keys(sums) as (keyof typeof sums)[]) sums[what] += probes[what];
		}
		return sums;
	}
});
