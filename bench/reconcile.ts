/**
 * How long the reconciler takes to bring the kernel to the desired state with 100, 1,000 and 5,000
 * dual-stack peers: maps, fairway0, kernel routes, programs.
 *
 *   bench/reconcile.ts [ROUNDS]     default 7 (5,000 peers: a third of that)
 *
 * It runs itself in temporary network and mount namespaces.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Path } from "../src/tables/generated.js";
import {
	ip,
	makeDevices,
	openReconciler,
	podInterface,
	podLines,
	recordPods,
	tablesOf,
} from "../test/node/reconcile/fixture.js";
import { publish } from "./tools/report.js";
import { shownSpread, spread } from "./tools/statistics.js";

const PEERS = [100, 1000, 5000];
const inside = process.argv[2] === "inside";
const given = process.argv[inside ? 3 : 2];
const ROUNDS = Number(given ?? 7);
const object = fileURLToPath(new URL("../build/bpf/fairway.bpf.o", import.meta.url));

if (inside) await measureAll();
else {
	const self = fileURLToPath(import.meta.url);
	const namespaces = ["--net", "--mount", "--propagation", "private"];
	const again = [process.execPath, "--import=tsx", self, "inside"];
	if (given !== undefined) again.push(given);
	process.exitCode =
		spawnSync("unshare", [...namespaces, ...again], { stdio: "inherit" }).status ?? 1;
}

type Times = Map<string, number[]>;

async function measureAll(): Promise<void> {
	if (!existsSync(object))
		throw new Error(`Cannot measure: expected ${object}, found none (npm run build)`);
	await makeDevices(1);
	recordPods(2);
	const all: Times[] = [];
	for (const peers of PEERS) all.push(await measure(peers, peers > 1000 ? ROUNDS / 3 : ROUNDS));
	const steps = [...all[0]!.keys()];
	publish(
		{
			bench: "reconcile",
			method: `${ROUNDS} rounds (5,000 peers: a third) in one process; median (least–greatest).`,
			tables: [
				{
					title: "From tables to the kernel: ms",
					columns: ["", ...PEERS.map((peers) => `${peers} peers`)],
					rows: steps.map((step) => [
						step,
						...all.map((times) => {
							const taken = times.get(step);
							return taken === undefined ? "" : shownSpread(spread(taken), 1);
						}),
					]),
				},
			],
			data: { peers: PEERS, times: all.map((times) => Object.fromEntries(times)) },
		},
		given !== undefined,
	);
}

async function measure(peerCount: number, rounds: number): Promise<Times> {
	const times = new Map<string, number[]>();
	const time = async <T>(what: string, act: () => Promise<T>): Promise<T> => {
		const started = performance.now();
		const result = await act();
		times.set(what, [...(times.get(what) ?? []), performance.now() - started]);
		return result;
	};

	const options = { flowsMax: 131_072 };
	let reconciler = await time("first start: maps", () => openReconciler(object, options));
	const none = tablesOf({ peers: 0 });
	const all = tablesOf({ peers: peerCount });
	const peers = new Map(all.peers).set(2, { ...all.peers.get(2)!, path: Path.DIRECT });
	const more = tablesOf({ peers: peerCount + 1 });
	const pods = tablesOf({ peers: peerCount, pods: 2 });
	await time("first apply: programs verified and attached", () => reconciler.apply(none));
	// Only a run without pins is a first start.
	if (peerCount !== PEERS[0]) times.clear();
	for (let round = 0; round < rounds; round++) {
		await time("all peers new", () => reconciler.apply(all));
		await time("nothing changed", () => reconciler.apply(all));
		await time("another path for one peer", () => reconciler.apply({ ...all, peers }));
		await time("one more peer", () => reconciler.apply(more));
		await reconciler.apply(all);
		await ip.batch(podLines(1));
		await time("one more Pod", () => reconciler.apply(pods));
		await ip.run("link", "del", "dev", podInterface(1));
		await reconciler.close();
		reconciler = await time("restart: open", () => openReconciler(object, options));
		await time("restart: first apply", () => reconciler.apply(all));
		await time("all peers removed", () => reconciler.apply(none));
	}
	await reconciler.close();

	return times;
}
