/**
 * The documents show what the benches have recorded, and judge it correctly; the benches' BPF
 * programs, which include Fairway's own sources, still compile.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import t from "tap";
import { benchObject } from "../../bench/tools/pktgen.js";
import { type Result, readRecorded } from "../../bench/tools/recorded.js";
import { renderResults } from "../../bench/tools/results.js";
import { shortSummary, summary } from "../../bench/tools/summary.js";

const top = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const conditions = { date: "", machine: "", kernel: "", node: "", load: [0, 0], seconds: 1 };

function result(bench: string, data: unknown): Result {
	return { bench, method: "", tables: [], data, conditions: conditions as Result["conditions"] };
}

const cpu = (...cpuPerPacket: number[]) => ({ cpuPerPacket, delivered: cpuPerPacket.map(() => 1) });

t.test("RESULTS.md, results.svg and README.md match bench/results", (t) => {
	const readme = readFileSync(`${top}/README.md`, "utf8");
	for (const [path, text] of renderResults(readRecorded(), readme))
		t.equal(readFileSync(`${top}/${path}`, "utf8"), text, `${path}: run bench/tools/results.ts`);
	t.end();
});

t.test("a README without the markers of the table is refused", (t) => {
	t.throws(() => renderResults([], "# Fairway"), /Cannot write README.md: expected the lines/);
	t.end();
});

t.test("ratios are paired by round, and judged by their median as shown", (t) => {
	const results = [
		result("pods", {
			"end 4 kernel vxlan": cpu(100, 200, 400),
			"end 4 Fairway geneve": cpu(50, 100.4, 300),
			"end 4 Fairway vxlan": cpu(51, 102, 204),
			"end 4 bare tunnel": cpu(49, 98, 196),
		}),
	];
	t.same(summary(results).rows[0], [
		"small packets, tunnel, end to end: CPU",
		"≤ 0.50 of kernel vxlan",
		"Geneve 0.50 (0.50–0.75)<br>VXLAN 0.51 (0.51–0.51)",
		"not by VXLAN",
		"bare tunnel 0.49 (0.49–0.49)",
	]);
	t.same(shortSummary(results).rows[0], [
		"small packets, tunnel, end to end: CPU",
		"≤ 0.50 of kernel vxlan",
		"Geneve **0.50**, VXLAN 0.51",
		"0.49 bare tunnel",
	]);
	t.end();
});

t.test("throughput is judged upwards, and what was not measured meets no target", (t) => {
	const stream = (received: number) => [{ received, elapsed: 8, cpu: received * 2, count: 1 }];
	const results = [
		result("tcp", {
			"1 stream kernel forwarding": stream(100),
			"1 stream Fairway direct": stream(101),
		}),
	];
	const rows = new Map(summary(results).rows.map(([name, ...cells]) => [name, cells]));
	t.equal(rows.get("TCP direct, 1 stream: Gb/s")?.[2], "yes");
	t.equal(rows.get("TCP direct, 1 stream: CPU per byte")?.[2], "no");
	t.equal(rows.get("TCP direct, 8 streams: Gb/s")?.[2], "not measured");
	t.end();
});

t.test("the target for flows comes from the look-up bench", (t) => {
	const growth = result("growth", {
		"out 1 flows": cpu(500, 500),
		"out 1000000 flows": cpu(600, 620),
		"in 1 flows": cpu(300, 300),
		"in 1000000 flows": cpu(520, 520),
	});
	const steps = result("steps", {
		"look_nowhere 1": { median: 10 },
		"look_quick 1": { median: 25 },
		"look_nowhere 1000000": { median: 20 },
		"look_quick 1000000": { median: 185 },
	});
	const row = ([growth, steps]: Result[]) =>
		summary([growth!, ...(steps ? [steps] : [])]).rows.find(([name]) =>
			/million|1,000,000/.test(name!),
		);
	t.same(row([growth, steps])?.slice(1, 4), [
		"≤ 150 ns, the cache misses of one look-up",
		"egress 110 (100–120)<br>ingress 220 (220–220)",
		"not by ingress",
	]);
	t.equal(row([growth])?.[3], "not measured");
	t.end();
});

t.test("the benches' programs compile", async (t) => {
	t.ok(readFileSync(await benchObject("steps_out")).length > 0);
});
