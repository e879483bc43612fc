/**
 * How long the reconciler takes to bring the kernel to what is wanted, with 1,000 dual-stack peers:
 * maps, fairway0, kernel routes, programs. Median and range in milliseconds.
 *
 * It runs itself in network and mount namespaces that end with it.
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

const PEERS = 1000;
const ROUNDS = 7;
const object = fileURLToPath(new URL("../build/bpf/fairway.bpf.o", import.meta.url));

if (process.argv[2] === "inside") await measure();
else {
	const self = fileURLToPath(import.meta.url);
	const namespaces = ["--net", "--mount", "--propagation", "private"];
	const inside = [process.execPath, "--import=tsx", self, "inside"];
	process.exitCode =
		spawnSync("unshare", [...namespaces, ...inside], { stdio: "inherit" }).status ?? 1;
}

async function measure(): Promise<void> {
	if (!existsSync(object))
		throw new Error(`Cannot measure: wanted ${object}, it is not built (npm run build)`);
	await makeDevices(1);
	recordPods(2);
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
	const all = tablesOf({ peers: PEERS });
	const peers = new Map(all.peers).set(2, { ...all.peers.get(2)!, path: Path.DIRECT });
	const more = tablesOf({ peers: PEERS + 1 });
	const pods = tablesOf({ peers: PEERS, pods: 2 });
	await time("first apply: programs verified and attached", () => reconciler.apply(none));
	for (let round = 0; round < ROUNDS; round++) {
		await time(`${PEERS} peers, all new`, () => reconciler.apply(all));
		await time("nothing changed", () => reconciler.apply(all));
		await time("the path of one peer", () => reconciler.apply({ ...all, peers }));
		await time("one peer more", () => reconciler.apply(more));
		await reconciler.apply(all);
		await ip.batch(podLines(1));
		await time("one Pod more", () => reconciler.apply(pods));
		await ip.run("link", "del", "dev", podInterface(1));
		await reconciler.close();
		reconciler = await time("restart: open", () => openReconciler(object, options));
		await time("restart: first apply", () => reconciler.apply(all));
		await time(`${PEERS} peers, all gone`, () => reconciler.apply(none));
	}
	await reconciler.close();

	for (const [what, all] of times) {
		const sorted = all.sort((a, b) => a - b);
		const [least, median, most] = [0, Math.floor(all.length / 2), -1].map((index) =>
			(sorted.at(index) ?? 0).toFixed(1).padStart(7),
		);
		console.log(`${what.padEnd(46)} ${median}   (${least} to ${most})`);
	}
}
