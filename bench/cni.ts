/**
 * How long a container runtime waits for fairway-cni: ADD and DEL of a Pod, including the start of the
 * process, with an idle agent that has 0, then 100 other Pods.
 *
 *   bench/cni.ts [ROUNDS]     default 25
 *
 * "VERSION" is the floor, measured alternately with the others: the plugin alone, which does not ask the agent.
 */
import { CniNode } from "../test/tools/cni_node.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { publish } from "./tools/report.js";

const rounds = Number(process.argv[2] ?? 25);
const OTHERS = 100;

interface Row {
	what: string;
	pods: number;
	median: number;
	p95: number;
	max: number;
}

const rows: Row[] = [];

function row(what: string, pods: number, times: number[]): void {
	times.sort((a, b) => a - b);
	const at = (share: number) =>
		Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))]! * 10) / 10;
	rows.push({ what, pods, median: at(0.5), p95: at(0.95), max: at(1) });
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

await bench(async () => {
	const node = await CniNode.up("bench");
	atEnd(() => node.down());
	await measure(node, 0);
	for (let i = 0; i < OTHERS; i += 4) {
		const names = [0, 1, 2, 3].map((k) => `other${i + k}`);
		await Promise.all(names.map(async (name) => node.add(await node.pod(name))));
	}
	await measure(node, OTHERS);
});

publish({
	bench: "cni",
	method: `${rounds} rounds, one process each, with an idle agent; "VERSION" is the plugin alone, measured alternately with the others.`,
	tables: [
		{
			title: "fairway-cni, called as by a runtime: ms",
			columns: ["", "other Pods", "median", "p95", "max"],
			rows: rows.map(({ what, pods, median, p95, max }) => [
				what,
				`${pods}`,
				...[median, p95, max].map((ms) => ms.toFixed(1)),
			]),
		},
	],
	data: rows,
});
