/**
 * Duration of the pure half of the control plane with 100, 1,000 and 5,000 dual-stack Nodes, from
 * manifests on disk to the changes of tables, and the same after a change of one Node.
 *
 *   bench/compile.ts [ROUNDS] [NODES]     default 15, all three
 *
 * Every step runs ROUNDS times (5,000 Nodes: a third of that) after two discarded runs.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Admission, admitAll } from "../src/cluster/admission.js";
import { ManifestDirectory } from "../src/cluster/manifests.js";
import { PeerIds } from "../src/cluster/peer_ids.js";
import type { Snapshot } from "../src/cluster/snapshot.js";
import { Store } from "../src/cluster/store.js";
import { compile } from "../src/compile/compile.js";
import { Compiler } from "../src/compile/compiler.js";
import { parseConfig } from "../src/config/parse.js";
import type { Network } from "../src/linux/network.js";
import { atOnce } from "../src/loop/turns.js";
import type { TableChanges } from "../src/tables/changes.js";
import { publish } from "./tools/report.js";
import { shownSpread, spread } from "./tools/statistics.js";

const wanted = Number(process.argv[2] ?? 15);
const counts = process.argv[3] === undefined ? [100, 1000, 5000] : [Number(process.argv[3])];
const WARM_UP = 2;

/** `moved`: with another InternalIP. */
function manifest(i: number, moved = false): string {
	const [high, low] = [i >> 8, i & 255];
	return `apiVersion: v1
kind: Node
metadata:
  name: node${i}
  labels:
    kubernetes.io/hostname: node${i}
spec:
  podCIDR: 10.${high}.${low}.0/24
  podCIDRs:
    - 10.${high}.${low}.0/24
    - fd00:10:${i.toString(16)}::/64
status:
  addresses:
    - type: InternalIP
      address: 172.${moved ? 17 : 16}.${high}.${low}
    - type: InternalIP
      address: fd00:172::${i.toString(16)}
    - type: Hostname
      address: node${i}
`;
}

const network: Network = {
	interfaces: [
		{
			name: "eth0",
			index: 2,
			mac: "02:00:00:00:00:01",
			mtu: 1500,
			up: true,
			addresses: [
				{ address: "172.16.0.1", prefixLength: 22 },
				{ address: "fd00:172::1", prefixLength: 118 },
			],
		},
	],
	routes: [
		{ prefix: "172.16.0.0/22", device: "eth0", metric: 0 },
		{ prefix: "0.0.0.0/0", gateway: "172.16.3.254", device: "eth0", metric: 0 },
		{ prefix: "fd00:172::/118", device: "eth0", metric: 256 },
	],
};

type Measure = <T>(
	step: string,
	act: () => T | Promise<T>,
	prepare?: () => void | Promise<void>,
) => Promise<T>;

/** Times of each step in milliseconds. */
type Times = Map<string, number[]>;

function measureInto(times: Times, rounds: number): Measure {
	return async (step, act, prepare = () => {}) => {
		const taken: number[] = [];
		times.set(step, taken);
		for (let round = -WARM_UP; ; round++) {
			await prepare();
			const start = performance.now();
			const result = await act();
			if (round >= 0) taken.push(performance.now() - start);
			if (round === rounds - 1) return result;
		}
	};
}

const parsed = parseConfig("trafficEncapMode: hybrid", "bench");
if ("errors" in parsed) throw new Error("Cannot measure: expected a configuration, got errors");
const { config } = parsed;
/** Returns the number of changed table entries, at first and for one changed Node. */
async function run(measure: Measure, count: number): Promise<{ all: number; one: number }> {
	const directory = mkdtempSync(join(tmpdir(), "fairway-bench-"));
	try {
		const write = (i: number, moved: boolean) =>
			writeFileSync(join(directory, `node${i}.yaml`), manifest(i, moved));
		for (let i = 1; i <= count; i++) write(i, false);
		const options = { pollMs: 3_600_000, quietMs: 3_600_000, patienceMs: 3_600_000 };

		const opened: ManifestDirectory[] = [];
		const source = await measure("read the manifests", async () => {
			const store = new Store();
			const manifests = await ManifestDirectory.open(directory, store, options);
			opened.push(manifests);
			const admission = new Admission(store);
			admission.update();
			return { manifests, admission };
		});
		const all = source.admission.update();
		let moved = false;
		await measure(
			"read again, one changed",
			async () => {
				await source.manifests.resync();
				source.admission.update();
			},
			() => {
				moved = !moved;
				write(7, moved);
			},
		);
		for (const manifests of opened) await manifests.close();
		write(7, true);
		const store = new Store();
		const changedSource = await ManifestDirectory.open(directory, store, options);
		const changed = new Admission(store).update();
		await changedSource.close();

		const ids = new PeerIds();
		const input = (snapshot: Snapshot) => ({
			config,
			snapshot,
			network,
			nodeName: "node1",
			peerIds: ids.assign(snapshot.nodes.keys()),
			endpoints: [],
		});
		await measure("resolve overlaps", () => admitAll(all.nodes.values()));
		// New objects every time, so that nothing is cached.
		let snapshot = all;
		await measure(
			"compile all of it at once",
			() => compile(input(snapshot)),
			() => {
				snapshot = { ...all, nodes: new Map(structuredClone(all.nodes)) };
			},
		);
		let compiler = new Compiler();
		let current = input(all);
		const changesOf = () => {
			const result = atOnce(compiler.update(current));
			if (!result.ready) throw new Error(`Cannot measure: expected tables, got ${result.reason}`);
			return result.tables;
		};
		const first = await measure("compile, all new", changesOf, () => {
			compiler = new Compiler();
		});
		const versions = [all.nodes.get("node7")!, changed.nodes.get("node7")!];
		let version = 0;
		const nodes = new Map(all.nodes);
		current = input({ ...all, nodes });
		const second = await measure("compile, one changed", changesOf, () => {
			nodes.set("node7", { ...versions[++version % 2]! });
			compiler.noteNodes(["node7"]);
		});
		const writes = ({ maps }: TableChanges) =>
			Object.values(maps).reduce((sum, { put, remove }) => sum + put.size + remove.size, 0);
		return { all: writes(first), one: writes(second) };
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}

const columns = ["ms", ...counts.map((count) => `${count} Nodes`)];
const perCount: Times[] = [];
const writes: { all: number; one: number }[] = [];
for (const count of counts) {
	const times: Times = new Map();
	const rounds = count > 1000 ? Math.ceil(wanted / 3) : wanted;
	writes.push(await run(measureInto(times, rounds), count));
	perCount.push(times);
}
const rows = [...perCount[0]!.keys()].map((step) => [
	step,
	...perCount.map((times) => shownSpread(spread(times.get(step) ?? []), 2)),
]);
rows.push(
	["changes of tables, all new", ...writes.map(({ all }) => `${all}`)],
	["changes of tables, one changed", ...writes.map(({ one }) => `${one}`)],
);
publish({
	bench: "compile",
	method: `Dual-stack Nodes, one file each; ${wanted} rounds (5,000 Nodes: a third) in one process; median (least–greatest).`,
	tables: [{ title: "From manifests to changes", columns, rows }],
	data: { nodes: counts, writes, times: perCount.map((times) => Object.fromEntries(times)) },
});
