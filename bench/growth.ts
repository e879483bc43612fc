/**
 * Cost as a function of size: a packet with 10, 1,000 and 10,000 peers, and with 1, 10,000 and a
 * million flows; memory of the maps and of the agent; start-up of the agent.
 *
 *   bench/growth.ts [ROUNDS] [FRAMES]     default 7, 100000
 *
 * Peers exist only in manifests, all beyond the router. A Pod sends to all of them in turn, always in
 * 10,000 flows.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../src/lab/namespace.js";
import { command } from "../src/lab/repository.js";
import { until } from "../src/lab/until.js";
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { Pktgen } from "./tools/pktgen.js";
import { publish, type Table } from "./tools/report.js";
import { Site } from "./tools/site.js";
import { shownSpread, spread } from "./tools/statistics.js";

const rounds = Number(process.argv[2] ?? 7);
const frames = Number(process.argv[3] ?? 100_000);
const PEERS = [10, 1000, 10_000];
const FLOWS = [1, 10_000, 1_000_000];
const FLOW_SLOTS = 2_097_152;
const PEER_FLOWS = 10_000;
const STARTS = 5;

interface Sizes {
	/** Resident memory of node1's agent, MB. */
	agent: number;
	/** Size of node1's pinned maps by the kernel's count, MB. */
	maps: number;
	/** From start to "ready", ms: with everything pinned already, and with nothing. */
	adopting: number[];
	cold: number[];
}

await bench(async () => {
	const pktgen = await Pktgen.open();
	const comparison = new Comparison(pktgen, rounds, frames);
	const sizes = new Map<string, Sizes>();

	const many = await Site.up("flows", {
		fairway: {
			trafficEncapMode: "encap",
			// No flow may expire during the measurement.
			flows: { max: FLOW_SLOTS, timeouts: { udpOpening: 3600 } },
		},
	});
	const stream = await many.fromPod(pktgen, {});
	const wire = await many.ontoWire(pktgen, stream);
	await many.sinkInPod(pktgen, "sink_tc");
	for (const flows of FLOWS)
		for (const [half, one] of Object.entries({ out: stream, in: wire })) {
			const varied = { ...one, vary: { flows } };
			// All flows are in the table before the first round.
			await pktgen.run(varied, flows + frames);
			comparison.add(`${half} ${flows} flows`, varied);
		}

	const crowds = new Map<number, Site>();
	for (const peers of PEERS) {
		const site = await Site.up(`${peers} peers`, { fairway: { trafficEncapMode: "encap" } });
		crowds.set(peers, site);
		const file = join(site.directory, "crowd.json");
		writeFileSync(`${file}.new`, JSON.stringify(crowd(peers)));
		await run(["mv", `${file}.new`, file]);
		for (const [node, agent] of site.lab.agents)
			await until(
				`${node} knows ${peers} peers more`,
				async () => {
					const status = await agent.status();
					return status.peers.nodes === peers + 1 && status.pending === 0;
				},
				120_000,
			);
		const known = await site.fromPod(pktgen, { vary: { flows: PEER_FLOWS } });
		const arriving = await site.ontoWire(pktgen, { ...known, vary: { flows: PEER_FLOWS } });
		await site.sinkInPod(pktgen, "sink_tc");
		const vary = { flows: PEER_FLOWS, destinations: peers, destinationShift: 8 };
		const spreading = await site.fromPod(pktgen, { destination: "10.100.0.2", vary });
		comparison.add(`out ${peers} peers`, spreading);
		comparison.add(`in ${peers} peers`, arriving);
	}
	await comparison.run();
	for (const [peers, site] of crowds) sizes.set(`${peers} peers`, await measureAgent(site));
	sizes.set("2M flow slots", await measureAgent(many));
	const bare = await measureBareNode();

	const table = (title: string, what: string, counts: readonly number[]): Table => ({
		title,
		columns: [
			"",
			"egress",
			`÷ ${counts[0]} ${what}`,
			"ingress",
			`÷ ${counts[0]} ${what}`,
			"delivered",
		],
		rows: counts.map((count) => {
			const name = `${count} ${what}`;
			const cells = ["out", "in"].flatMap((half) => [
				comparison.cpu(`${half} ${name}`),
				comparison.ratio(`${half} ${name}`, `${half} ${counts[0]} ${what}`),
			]);
			const delivered = ["out", "in"].map((half) => comparison.delivered(`${half} ${name}`));
			return [name, ...cells, delivered.join(" ")];
		}),
	});
	publish({
		bench: "growth",
		method: `Geneve, IPv4, UDP in frames of 64 bytes; ${rounds} rounds of ${frames} frames, the ways alternating; median (least–greatest). Agent: node1's; its memory at the end of all rounds, ${STARTS} starts of each kind in turn. The floor is a Node.js process that does nothing.`,
		tables: [
			table(`Peers, ${PEER_FLOWS} flows: CPU ns per packet`, "peers", PEERS),
			table("Flows, all in the table: CPU ns per packet", "flows", FLOWS),
			{
				title: "The agent",
				columns: ["", "resident MB", "maps MB", "ready after restart ms", "first ready ms"],
				rows: [
					...[...sizes].map(([name, { agent, maps, adopting, cold }]) => [
						name,
						agent.toFixed(0),
						maps.toFixed(0),
						shownSpread(spread(adopting)),
						shownSpread(spread(cold)),
					]),
					["bare Node.js", bare.resident.toFixed(0), "", "", shownSpread(spread(bare.starts))],
				],
			},
		],
		data: { ...comparison.data(), agent: Object.fromEntries(sizes), bare },
	});
});

/** Must be the last use of a site: it removes the Pods. */
async function measureAgent(site: Site): Promise<Sizes> {
	const agent = site.lab.agent("node1");
	const { pid } = await agent.status();
	const resident = residentOf(pid);
	const maps = await mapBytes(join(agent.pinDirectory, "maps"));
	const start = async (): Promise<number> => {
		const begun = performance.now();
		await agent.start();
		return performance.now() - begun;
	};
	const cleanup = ["cleanup", "--pin-dir", agent.pinDirectory, "--run-dir", agent.runDirectory];
	const adopting: number[] = [];
	const cold: number[] = [];
	for (let i = 0; i < STARTS; i++) {
		await agent.stop();
		adopting.push(await start());
		await agent.stop();
		await site.lab.run("node1", [command("fairway"), ...cleanup]);
		rmSync(agent.runDirectory, { recursive: true, force: true });
		cold.push(await start());
	}
	return { agent: resident, maps: maps / 2 ** 20, adopting, cold };
}

/** MB */
function residentOf(pid: number): number {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) / 1024;
}

/** Memory and start-up time before any code of Fairway runs. */
async function measureBareNode(): Promise<{ resident: number; starts: number[] }> {
	const starts: number[] = [];
	let resident = 0;
	for (let i = 0; i < STARTS; i++) {
		const begun = performance.now();
		const idle = 'process.stdout.write("ready"); setInterval(() => {}, 1000)';
		const child = spawn(process.execPath, ["-e", idle], {
			stdio: ["ignore", "pipe", "inherit"],
			env: { ...process.env, NODE_OPTIONS: "" },
		});
		await once(child.stdout, "data");
		starts.push(performance.now() - begun);
		resident = residentOf(child.pid!);
		child.kill();
		await once(child, "exit");
	}
	return { resident, starts };
}

async function mapBytes(directory: string): Promise<number> {
	let sum = 0;
	for (const name of existsSync(directory) ? readdirSync(directory) : []) {
		const pinned = ["bpftool", "--json", "map", "show", "pinned", join(directory, name)];
		const { bytes_memlock: bytes } = JSON.parse((await run(pinned)).stdout) as {
			bytes_memlock?: number;
		};
		sum += bytes ?? 0;
	}
	return sum;
}

/** Nodes without machines: from 10.100.0.0/24 on, outside the subnets of the others. */
function crowd(count: number): object {
	const node = (_: unknown, i: number): object => ({
		kind: "Node",
		apiVersion: "v1",
		metadata: { name: `crowd${i}` },
		spec: {
			podCIDRs: [`10.${100 + (i >> 8)}.${i & 255}.0/24`, `fd00:20:${(i + 1).toString(16)}::/64`],
		},
		status: {
			addresses: [
				{ type: "InternalIP", address: `172.16.${i >> 8}.${i & 255}` },
				{ type: "InternalIP", address: `fd00:172:16::${(i + 1).toString(16)}` },
			],
		},
	});
	return { kind: "List", apiVersion: "v1", items: Array.from({ length: count }, node) };
}
