/**
 * Runs random packets through the eBPF programs and through the forwarder: verdict, drop reason, packet,
 * flow, fragments, slow path and probe records, and counters must be the same, byte for byte.
 *
 * FAIRWAY_SEED repeats a run, FAIRWAY_PACKETS sets the number of packets. On a difference, the shortest
 * sequence that shows it is stored in test/packet/found/, and found.test.ts repeats it.
 */

import { randomInt } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import t from "tap";
import {
	Action,
	DropReason,
	DropReasonName,
	Hook,
	HookName,
	NodeFlag,
	Path,
	PeerFlag,
} from "../../src/tables/generated.js";
import { check, flowText, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { Random } from "./random.js";
import { RandomPolicies } from "./random_policies.js";
import { minimised, type Row, rowText } from "./row.js";
import { countersOf, Tally } from "./tally.js";
import { Traffic } from "./traffic.js";
import {
	peers as everyPeer,
	LONG_TIMEOUTS,
	makeNetwork,
	makeTables,
	type Variation,
} from "./world.js";

const PACKETS = Number(process.env.FAIRWAY_PACKETS ?? 12_000);
/** As long as a drop reason has not occurred, the run goes on, up to this many packets: some are rare. */
const PACKETS_MAX = 10 * PACKETS;
/** Packets that share flows; afterwards the state is cleared. */
const EPISODE = 200;
const FLOW_SLOTS = 1024;
const FOUND_MAX = 10;

/** The drop reasons that random packets do not cause, or too seldom: other tests show these. All others must occur. */
const UNMET: number[] = [
	DropReason.NONE,
	DropReason.FLOW_TABLE_FULL,
	DropReason.SLOW_PATH_RATE,
	DropReason.SLOW_PATH_FULL,
	DropReason.SLOW_PATH_SIZE,
	DropReason.REWRITE_FAILED,
	DropReason.NOT_CONFIGURED,
	DropReason.PROBE_RATE,
	DropReason.NEIGHBOUR_RATE,
	DropReason.SNAT_PORTS_EXHAUSTED,
	DropReason.SCTP_BUNDLE,
	DropReason.REASON_COUNT,
];
const MET = Object.values(DropReason)
	.filter((reason) => !UNMET.includes(reason))
	.map((reason) => DropReasonName[reason]);

function newTables(variation: Variation) {
	const config = { ...variation.config, flowTimeouts: LONG_TIMEOUTS };
	return makeTables(FLOW_SLOTS, { ...variation, config });
}

async function firstDifference(
	dataPath: DataPath,
	variation: Variation,
	inputs: Input[],
): Promise<string[]> {
	await dataPath.forget();
	const tables = newTables(variation);
	dataPath.write(tables);
	for (const input of inputs) {
		const { differences } = await check(dataPath, tables, input);
		if (differences.length > 0) return differences;
	}
	return [];
}

function randomSecret(random: Random): { word: number[] } {
	return { word: Array.from({ length: 6 }, () => random.below(2 ** 32)) };
}

/** How the Node of an episode is set up. */
function randomVariation(random: Random, policies: RandomPolicies | undefined): Variation {
	const config: Variation["config"] = {
		flowHash: randomSecret(random),
		portHash: randomSecret(random),
		flags:
			NodeFlag.CONFIGURED |
			(random.chance(0.8) ? NodeFlag.SNAT : 0) |
			(random.chance(0.9) ? NodeFlag.SERVES_ALL : 0) |
			(random.chance(0.5) ? NodeFlag.STACK_SNAT : 0) |
			(random.chance(0.5) ? NodeFlag.STACK_ANSWERS : 0) |
			(random.chance(0.3) ? NodeFlag.SERVES_CLUSTER_IPS : 0),
		transportMtu: random.pick([1500, 1500, 1400, 9000]),
	};
	const [first, last] = random.pick([
		[49152, 65535],
		[49152, 65535],
		[60000, 60003],
		[1, 65535],
		[1024, 1024],
	] as const);
	config.snatPortFirst = first;
	config.snatPortLast = last;
	if (random.chance(0.2)) config.genevePort = 7000;
	if (random.chance(0.1)) config.vxlanPort = 7001;
	if (random.chance(0.1)) config.snatAddress4 = "";
	if (random.chance(0.1)) config.gatewayAddress6 = "";
	const peers: Variation["peers"] = {};
	if (random.chance(0.6)) {
		for (const { id } of everyPeer) {
			peers[id] = {
				path: random.pick([
					Path.DIRECT,
					Path.ROUTED,
					Path.GENEVE,
					Path.VXLAN,
					Path.DOWN,
					Path.NONE,
				]),
				outerFamily: random.pick([4, 6]),
				mtu: random.pick([1280, 1430, 1450, 1500, 576]),
				flags: random.pick([0, 0, 0, PeerFlag.TUNNELLED_ONLY, PeerFlag.ENDING]),
			};
		}
	}
	return {
		...{ config, peers, proven: random.chance(0.7) },
		...(policies && { policies: policies.next(), policyEpoch: random.pick([0, 1, 0xfffe]) }),
	};
}

/**
 * The peers about which the two differ. Where a packet that bypassed the tunnel has resolved a peer's next hop, it is a
 * matter of milliseconds whether the next packet to that peer resolves it, too: then both are right. They may tell
 * a peer again on a machine that stood still for TRAFFIC_PAUSE_MS.
 */
function trafficDifferences(core: readonly number[], { traffic, bypassed }: Tally): number[] {
	const all = new Set([...core, ...traffic]);
	return [...all].filter(
		(index) => core.includes(index) !== traffic.includes(index) && !bypassed.has(index),
	);
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

	t.test(`${PACKETS} packets of seed ${seed}`, async (t) => {
		const random = new Random(seed);
		const seen = new Set<string>();
		let found = 0;
		const unmet = () => {
			const reasons = new Set([...seen].map((kind) => kind.split(" ")[1]));
			return MET.filter((reason) => !reasons.has(reason));
		};
		const goesOn = (done: number) => done < PACKETS || (done < PACKETS_MAX && unmet().length > 0);
		for (let done = 0; found < FOUND_MAX && goesOn(done); ) {
			await dataPath.forget();
			const policies = random.chance(0.6) ? new RandomPolicies(random) : undefined;
			const variation = randomVariation(random, policies);
			const tables = newTables(variation);
			dataPath.write(tables);
			const traffic = new Traffic(random, policies);
			const inputs: Input[] = [];
			const tally = new Tally();
			for (let i = 0; i < EPISODE; i++, done++) {
				const input = traffic.next();
				inputs.push(input);
				const { decision, differences, refused } = await check(dataPath, tables, input);
				tally.add(decision, refused);
				if (differences.length > 0) {
					found++;
					const least = await minimised(
						inputs,
						async (some) => (await firstDifference(dataPath, variation, some)).length > 0,
					);
					const why = await firstDifference(dataPath, variation, least);
					const row = { shows: why.join("; "), variation, inputs: least };
					t.fail(`packet ${done} of seed ${seed}, kept as ${keep(seed + found, row)}`, {
						differences: why.length > 0 ? why : differences,
						steps: decision.steps,
					});
					break;
				}
				traffic.observe(decision);
				seen.add(
					[
						HookName[input.hook],
						DropReasonName[decision.dropReason],
						decision.action,
						decision.slowPathKind,
					].join(" "),
				);
			}
			const flows = tables.slots.flatMap((flow) => (flow ? [flowText(flow)] : []));
			if (found === 0) {
				t.strictSame(dataPath.flows().map(flowText).sort(), flows.sort(), "the same flows");
				t.strictSame(countersOf(dataPath), tally.lines(), "the same counters");
				t.strictSame(await dataPath.probeRecords(), [], "the agent was told no more");
				t.same(trafficDifferences(await dataPath.traffic(), tally), [], "of the same traffic");
			}
		}
		t.equal(found, 0, "the forwarder and the data path agree");
		t.same(unmet(), [], "every reason dropped a packet");
		const proven = `${HookName[Hook.FROM_WIRE]} none ${Action.PROBE} 0`;
		t.ok(seen.has(proven), "an answer to a probe was taken");
		t.ok(seen.size > 40, `${seen.size} combinations of hook, action and reason were met`);
	});
}
