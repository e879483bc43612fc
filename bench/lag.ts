/**
 * How late the agent's event loop is with 5,000 Nodes, of which 100 a second change, while `fairway
 * status` is asked for each second: as long as one synchronous piece of work runs, no probe is answered
 * and no path is left. Next to it, an idle Node.js process in the same seconds.
 *
 *   bench/lag.ts [SECONDS] [NODES]     default 30, 5000
 *
 * The Nodes exist only in manifests, a file each, all beyond the router.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { until } from "../src/lab/until.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { publish } from "./tools/report.js";
import { Site } from "./tools/site.js";

const seconds = Number(process.argv[2] ?? 30);
const count = Number(process.argv[3] ?? 5000);
const CHANGES_A_SECOND = 100;
const STATUS_MS = 1000;

interface Lags {
	p50: number;
	p99: number;
	p999: number;
	max: number;
	/** Garbage collections, of young objects and of all. */
	minor: Pauses;
	major: Pauses;
}

/** How often, and how long they stopped the process, ms. */
interface Pauses {
	count: number;
	max: number;
	sum: number;
}

await bench(async () => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-lag-"));
	atEnd(() => rmSync(directory, { recursive: true, force: true }));
	const recorder = fileURLToPath(new URL("tools/lag_recorder.mjs", import.meta.url));
	const options = `--import=${recorder}`;
	Object.assign(process.env, { LAG_DIRECTORY: directory, LAB_NODE_OPTIONS: options });
	const site = await Site.up("lag", { fairway: { trafficEncapMode: "encap" } });
	const idle = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], {
		stdio: "ignore",
		env: { ...process.env, NODE_OPTIONS: options },
	});
	atEnd(() => idle.kill());

	for (let i = 0; i < count; i++) write(site.directory, i, 0);
	const agent = site.lab.agent("node1");
	await until(
		`node1 knows ${count} Nodes more`,
		async () => {
			const { peers, pending } = await agent.status();
			return peers.nodes === count + 1 && pending === 0;
		},
		180_000,
	);
	const { pid } = await agent.status();

	/** The lags since the last call. */
	const read = async (pid: number): Promise<Lags> => {
		const file = join(directory, `${pid}.json`);
		rmSync(file, { force: true });
		process.kill(pid, "SIGUSR2");
		await until(`the lags of ${pid}`, async () => existsSync(file));
		return JSON.parse(readFileSync(file, "utf8")) as Lags;
	};
	const measure = async (act: () => Promise<void>): Promise<{ agent: Lags; idle: Lags }> => {
		await Promise.all([read(pid), read(idle.pid!)]);
		await act();
		const [agentLags, idleLags] = await Promise.all([read(pid), read(idle.pid!)]);
		return { agent: agentLags, idle: idleLags };
	};
	const asked = async (): Promise<void> => {
		const end = performance.now() + seconds * 1000;
		while (performance.now() < end) {
			await Promise.all([agent.status(), delay(STATUS_MS)]);
		}
	};
	let changes = 0;
	const changed = async (): Promise<void> => {
		const end = performance.now() + seconds * 1000;
		const began = performance.now();
		while (performance.now() < end) {
			for (
				const due = ((performance.now() - began) / 1000) * CHANGES_A_SECOND;
				changes < due;
				changes++
			)
				write(site.directory, (changes * 7) % count, 1 + Math.floor((changes * 7) / count));
			await delay(10);
		}
	};
	const rows = {
		quiet: await measure(asked),
		[`${CHANGES_A_SECOND} changes/s`]: await measure(async () => {
			await Promise.all([asked(), changed()]);
		}),
	};
	const pauses = ({ count, max, sum }: Pauses) => [String(count), max.toFixed(2), sum.toFixed(0)];
	const cells = ({ p50, p99, p999, max }: Lags) => [p50, p99, p999, max].map((ms) => ms.toFixed(2));
	publish({
		bench: "lag",
		method: `${count} dual-stack Nodes in manifests, a file each; \`status\` each second; ${seconds} s without changes, then ${seconds} s with ${CHANGES_A_SECOND} Nodes a second that change their InternalIP. Lag of node1's agent and of an idle Node.js process in the same time.`,
		tables: [
			{
				title: "Lag of the event loop, ms",
				columns: ["", "p50", "p99", "p99.9", "max"],
				rows: Object.entries(rows).flatMap(([name, lags]) => [
					[name, ...cells(lags.agent)],
					[`${name}, idle Node.js`, ...cells(lags.idle)],
				]),
			},
			{
				title: "Garbage collections that stopped the agent, which is part of its lag: ms",
				columns: ["", "of young objects", "longest", "sum", "of all objects", "longest", "sum"],
				rows: Object.entries(rows).map(([name, { agent }]) => [
					name,
					...pauses(agent.minor),
					...pauses(agent.major),
				]),
			},
		],
		data: { nodes: count, seconds, changes, lags: rows },
	});
});

/** From 10.100.0.0/24 on, outside the subnets of the others. */
function write(directory: string, i: number, version: number): void {
	const node = {
		kind: "Node",
		apiVersion: "v1",
		metadata: { name: `crowd${i}` },
		spec: {
			podCIDRs: [`10.${100 + (i >> 8)}.${i & 255}.0/24`, `fd00:20:${(i + 1).toString(16)}::/64`],
		},
		status: {
			addresses: [
				{ type: "InternalIP", address: `198.${18 + (version & 1)}.${i >> 8}.${i & 255}` },
			],
		},
	};
	const file = join(directory, `crowd${i}.json`);
	writeFileSync(`${file}.new`, JSON.stringify(node));
	renameSync(`${file}.new`, file);
}
