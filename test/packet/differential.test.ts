/**
 * Random packets through the eBPF programs and through the forwarder: verdict, drop reason, packet,
 * flow, fragments and slow path records have to be the same, byte for byte.
 *
 * FAIRWAY_SEED repeats a run, FAIRWAY_PACKETS changes how many packets there are. When they differ,
 * the shortest sequence that shows it is kept in test/packet/found/, which found.test.ts repeats.
 */

import { randomInt } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import t from "tap";
import { FlowState } from "../../src/tables/generated.js";
import { check, flowText, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { Random } from "./random.js";
import { minimised, type Row, rowText } from "./row.js";
import { Traffic } from "./traffic.js";
import { makeNetwork, makeTables } from "./world.js";

const PACKETS = Number(process.env.FAIRWAY_PACKETS ?? 12_000);
/** Packets that share flows; then everything is forgotten. */
const EPISODE = 200;
const FLOW_SLOTS = 1024;
const FOUND_MAX = 10;

/** Nothing expires during a run: the clocks of both sides are not the same one. */
const LONG = new Array<number>(FlowState.STATE_COUNT).fill(1_000_000);

const newTables = () => makeTables(FLOW_SLOTS, { flowTimeouts: LONG });

async function firstDifference(dataPath: DataPath, inputs: Input[]): Promise<string[]> {
	await dataPath.forget();
	const tables = newTables();
	for (const input of inputs) {
		const { differences } = await check(dataPath, tables, input);
		if (differences.length > 0) return differences;
	}
	return [];
}

function keep(seed: number, row: Row): string {
	const name = `${seed}-${row.inputs.length}.json`;
	const folder = fileURLToPath(new URL("found/", import.meta.url));
	mkdirSync(folder, { recursive: true });
	writeFileSync(`${folder}${name}`, rowText(row));
	return `test/packet/found/${name}`;
}

if (inNamespace(import.meta.url)) {
	const seed = Number(process.env.FAIRWAY_SEED ?? randomInt(2 ** 31));
	t.comment(`seed ${seed}: FAIRWAY_SEED=${seed} repeats this run`);
	makeNetwork();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => dataPath.close());
	dataPath.write(newTables());

	t.test(`${PACKETS} packets of seed ${seed}`, async (t) => {
		const random = new Random(seed);
		const seen = new Map<string, number>();
		let found = 0;
		for (let done = 0; done < PACKETS && found < FOUND_MAX; ) {
			await dataPath.forget();
			const tables = newTables();
			const traffic = new Traffic(random);
			const inputs: Input[] = [];
			for (let i = 0; i < EPISODE && done < PACKETS; i++, done++) {
				const input = traffic.next();
				inputs.push(input);
				const { decision, differences } = await check(dataPath, tables, input);
				if (differences.length > 0) {
					found++;
					const least = await minimised(
						inputs,
						async (some) => (await firstDifference(dataPath, some)).length > 0,
					);
					const why = await firstDifference(dataPath, least);
					const row = { shows: why.join("; "), inputs: least };
					t.fail(`packet ${done} of seed ${seed}, kept as ${keep(seed + found, row)}`, {
						differences: why.length > 0 ? why : differences,
						steps: decision.steps,
					});
					break;
				}
				traffic.observe(decision);
				const kind = `${input.hook} ${decision.action} ${decision.dropReason} ${decision.slowPathKind}`;
				seen.set(kind, (seen.get(kind) ?? 0) + 1);
			}
			const flows = tables.slots.flatMap((flow) => (flow ? [flowText(flow)] : []));
			if (found === 0) {
				t.strictSame(dataPath.flows().map(flowText).sort(), flows.sort(), "the same flows");
			}
		}
		t.equal(found, 0, "the forwarder and the data path agree");
		t.ok(seen.size > 40, `${seen.size} combinations of hook, action and reason were met`);
	});
}
