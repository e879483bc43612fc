/**
 * How long a container runtime waits for fairway-cni: ADD and DEL of a Pod, including the start of the
 * process.
 *
 *   bench/cni.ts [ROUNDS]     default 25
 *
 *  1 one at a time, the agent's CNI part alone, with 0, then 100 other Pods
 *  2 thirty at once, the whole agent with its data path
 *
 * "VERSION" is the floor, measured alternately with the others: the plugin alone, which does not ask the agent. What
 * starts many at once (bench/at_once.c) is as small as the start of a process allows, as a runtime is.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../src/lab/lab.js";
import { Namespace, run } from "../src/lab/namespace.js";
import { type CniCall, cniInvocation } from "../src/lab/pod.js";
import { exampleDirectory } from "../src/lab/repository.js";
import { CniNode } from "../test/tools/cni_node.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { benchFile } from "./tools/pktgen.js";
import { publish } from "./tools/report.js";

const rounds = Number(process.argv[2] ?? 25);
const OTHERS = 100;
const AT_ONCE = 30;

interface Row {
	what: string;
	pods: number;
	median: number;
	p99: number;
	max: number;
}

const rows: Row[] = [];
/** All of those at once, ms. */
const allTimes: Record<string, number[]> = {};

function row(what: string, pods: number, times: number[]): void {
	times.sort((a, b) => a - b);
	const at = (share: number) =>
		Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))]! * 10) / 10;
	rows.push({ what, pods, median: at(0.5), p99: at(0.99), max: at(1) });
}

async function timed(times: number[], work: () => Promise<unknown>): Promise<void> {
	const start = performance.now();
	await work();
	times.push(performance.now() - start);
}

async function measure(node: CniNode, pods: number): Promise<void> {
	const pod = await node.pod(`bench${pods}`);
	const [add, again, check, del]: [number[], number[], number[], number[]] = [[], [], [], []];
	const floor: number[] = [];
	for (let i = 0; i < rounds; i++) {
		await timed(floor, () => node.call("VERSION", pod));
		let prevResult: object | undefined;
		await timed(add, async () => {
			prevResult = (await node.add(pod)).body;
		});
		await timed(again, () => node.add(pod));
		await timed(check, () => node.call("CHECK", pod, { config: { prevResult } }));
		await timed(del, () => node.call("DEL", pod));
	}
	row("VERSION", pods, floor);
	row("ADD", pods, add);
	row("ADD again", pods, again);
	row("CHECK", pods, check);
	row("DEL", pods, del);
}

/** The Pods of a Deployment that all come, and go, at the same time. */
async function measureMany(): Promise<void> {
	const manifests = mkdtempSync(join(tmpdir(), "fairway-bench-cni-"));
	atEnd(() => rmSync(manifests, { recursive: true, force: true }));
	cpSync(exampleDirectory, manifests, { recursive: true });
	const lab = await Lab.up({ name: `fwb-cni-${process.pid}`, manifests });
	atEnd(() => lab.down());
	const names = Array.from({ length: AT_ONCE }, (_, i) => `fwb-${process.pid}-${i}`);
	for (const name of names) {
		await run(["ip", "netns", "add", name]);
		atEnd(async () => void (await run(["ip", "netns", "del", name])));
	}
	const pod = lab.topology.pods[0]!;
	const node = lab.namespace("node1");
	const { socket } = lab.agent("node1");
	const launcher = await benchFile("at_once");
	const all = async (verb: CniCall["verb"]): Promise<number[]> => {
		const invocations = names.map((name) =>
			cniInvocation({ verb, pod, node, target: new Namespace(name), socket }),
		);
		const input = invocations.map(({ environment, input }) => {
			const words = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
			return `${words.join(" ")}\t${input}\n`;
		});
		const command = [launcher, invocations[0]!.command];
		const { stdout } = await node.run(command, { input: input.join("") });
		return stdout
			.trimEnd()
			.split("\n")
			.map((line) => {
				const [status, ms] = line.split(" ");
				if (status !== "0") throw new Error(`Cannot ${verb}: the plugin ended with ${status}`);
				return Number(ms);
			});
	};
	const collected: Record<string, number[]> = { VERSION: [], ADD: [], DEL: [] };
	for (let i = 0; i < rounds; i++)
		for (const verb of ["VERSION", "ADD", "DEL"] as const)
			collected[verb]!.push(...(await all(verb)));
	for (const [verb, times] of Object.entries(collected)) {
		const what = `${verb}, ${AT_ONCE} at once`;
		allTimes[what] = times;
		row(what, 0, times);
	}
}

await bench(async () => {
	const node = await CniNode.up("bench");
	atEnd(() => node.down());
	await measure(node, 0);
	for (let i = 0; i < OTHERS; i += 4) {
		const names = [0, 1, 2, 3].map((k) => `other${i + k}`);
		await Promise.all(names.map(async (name) => node.add(await node.pod(name))));
	}
	await measure(node, OTHERS);
	await measureMany();
});

publish({
	bench: "cni",
	method: `${rounds} rounds, one process each, with an idle agent; "VERSION" is the plugin alone, measured alternately with the others. "At once": all calls together, with the whole agent.`,
	tables: [
		{
			title: "fairway-cni, called as by a runtime: ms",
			columns: ["", "other Pods", "median", "p99", "max"],
			rows: rows.map(({ what, pods, median, p99, max }) => [
				what,
				`${pods}`,
				...[median, p99, max].map((ms) => ms.toFixed(1)),
			]),
		},
	],
	data: { rows, times: allTimes },
});
