/** The order in which the tables of Services are written, and what is read of them again. */
import t from "tap";
import { Links } from "../../src/reconcile/links.js";
import type { AgentTables, EntryFailure } from "../../src/reconcile/maps/agent_tables.js";
import { withThoseThatJoin } from "../../src/reconcile/maps/service_tables.js";
import { TableState } from "../../src/reconcile/maps/table_state.js";
import { concernsTablesOnly } from "../../src/reconcile/wanted.js";
import { noMaps, putEntry } from "../../src/tables/changes.js";
import {
	BackendState,
	FrontendKind,
	NodeConfig,
	NodeFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import { noServiceMaps, SERVICE_MAPS, type Tables } from "../../src/tables/tables.js";
import { readAgain } from "../tools/read_again.js";

const { SERVES, IN_CLUSTER_SET, RESTS } = BackendState;
const nothing = NodeConfig.decode(Buffer.alloc(NodeConfig.size));

/** Tables on paper that note what is asked of them. */
function paper() {
	const log: string[] = [];
	const config = new Map<number, NodeConfig>();
	const table = <K, V>(name: string, entries = new Map<K, V>()) => ({
		entries,
		read: () => new Map(entries),
		readAt: () => new Map(entries),
		hasChanged: async (most?: number) => {
			log.push(`read ${name} ${most ?? "all"}`);
			return false;
		},
		async *readInSlices(most?: number) {
			log.push(`read ${name} ${most ?? "all"}`);
			yield new Map(entries);
		},
		put: (some: readonly (readonly [K, V])[]): EntryFailure<K>[] => {
			for (const [key, value] of some) {
				log.push(`put ${name} ${key}`);
				entries.set(key, value);
			}
			return [];
		},
		remove: (keys: readonly K[]): EntryFailure<K>[] => {
			for (const key of keys) {
				log.push(`remove ${name} ${key}`);
				entries.delete(key);
			}
			return [];
		},
	});
	const names = ["peers", "peerAddresses", "peerPaths", "peerGateways", "sourceAddresses"];
	const tables = {
		...Object.fromEntries(
			[...names, "routes", "endpoints", ...SERVICE_MAPS].map((name) => [name, table(name)]),
		),
		nodeConfig: table("nodeConfig", config),
		readNodeConfig: () => config.get(0) ?? nothing,
	} as unknown as { [T in (typeof SERVICE_MAPS)[number]]: ReturnType<typeof table> } & {
		readNodeConfig(): NodeConfig;
	};
	const state = new TableState(tables as unknown as AgentTables);
	const wanted: Tables = {
		nodeConfig: { ...nothing, flags: NodeFlag.CONFIGURED },
		...Object.fromEntries([...names, "routes", "endpoints"].map((name) => [name, new Map()])),
		...noServiceMaps(),
	} as unknown as Tables;
	const apply = async () => {
		log.length = 0;
		const outcome = await state.apply(structuredClone(wanted), new Links([]), 1);
		return { writes: outcome.writes, log: [...log] };
	};
	return { log, tables, state, wanted, apply };
}

const set = (first: number, count: number) => BigInt(first) | (BigInt(count) << 32n);
const service = (clusterSet: bigint) => ({
	...{ clusterSet, localSet: 0n, nameHash: 7n, affinity: 0, flags: 0 },
});

t.test("what is named is written before what names it, and removed after it", async (t) => {
	const { wanted, apply, tables } = paper();
	await apply();
	const vip = { kind: RouteKind.SERVICE, flags: 0, peer: 0, mtu: 0 };
	wanted.backends.set(9, { address: "10.0.0.1", port: 80, service: 1 });
	wanted.backendStates.set(1, BigInt(SERVES | IN_CLUSTER_SET) << 8n);
	wanted.serviceSlots.set(0, 9);
	wanted.services.set(1, service(set(0, 1)));
	wanted.serviceRanges.set("1 10.0.0.0/8", 1);
	wanted.frontends.set("10.96.0.1 6 80", { service: 1, kind: FrontendKind.CLUSTER_IP });
	wanted.routes.set("10.96.0.1/32", vip);
	t.same((await apply()).log, [
		"put backends 9",
		"put backendStates 1",
		"put serviceRanges 1 10.0.0.0/8",
		"put serviceSlots 0",
		"put services 1",
		"put frontends 10.96.0.1 6 80",
		"put routes 10.96.0.1/32",
		"put nodeConfig 0",
	]);
	for (const name of [...SERVICE_MAPS, "routes"] as const) wanted[name].clear();
	wanted.backendStates.set(1, BigInt(RESTS) << 8n);
	t.same((await apply()).log, [
		"remove routes 10.96.0.1/32",
		"remove frontends 10.96.0.1 6 80",
		"remove services 1",
		"remove serviceSlots 0",
		"remove serviceRanges 1 10.0.0.0/8",
		"put backendStates 1",
		"remove backends 9",
		"put nodeConfig 0",
	]);
	t.same(tables.backendStates.entries.get(1), BigInt(RESTS) << 8n);
});

t.test("of endpoints that change together those that join serve first", async (t) => {
	const { wanted, apply, tables } = paper();
	wanted.backends.set(1, { address: "10.0.0.1", port: 80, service: 1 });
	wanted.backendStates.set(0, BigInt(SERVES | IN_CLUSTER_SET) << 8n);
	wanted.serviceSlots.set(0, 1);
	wanted.services.set(1, service(set(0, 1)));
	await apply();
	wanted.backends.set(2, { address: "10.0.0.2", port: 80, service: 1 });
	wanted.backendStates.set(0, (BigInt(RESTS) << 8n) | (BigInt(SERVES | IN_CLUSTER_SET) << 16n));
	wanted.serviceSlots.set(0, 2);
	const words: unknown[] = [];
	const { put } = tables.backendStates;
	tables.backendStates.put = (entries) => {
		words.push(...entries.map(([, word]) => word));
		return put(entries);
	};
	t.same((await apply()).log, [
		"put backends 2",
		"put backendStates 0",
		"put serviceSlots 0",
		"put backendStates 0",
	]);
	const both = BigInt(SERVES | IN_CLUSTER_SET);
	t.same(words, [(both << 8n) | (both << 16n), (BigInt(RESTS) << 8n) | (both << 16n)]);
});

t.test("a state between two: who joins has joined, and nobody has left", (t) => {
	const rows: [what: string, held: number, wanted: number, between: number][] = [
		["a new backend", 0, SERVES | IN_CLUSTER_SET, SERVES | IN_CLUSTER_SET],
		["one that is gone", SERVES | IN_CLUSTER_SET, RESTS, SERVES | IN_CLUSTER_SET],
		["one that leaves its set", SERVES | IN_CLUSTER_SET, SERVES, SERVES | IN_CLUSTER_SET],
		["one that has rested", RESTS, SERVES, SERVES],
		["one that is forgotten", RESTS, 0, RESTS],
	];
	for (const [what, held, wanted, between] of rows)
		for (const at of [0n, 56n])
			t.equal(
				withThoseThatJoin(BigInt(held) << at, BigInt(wanted) << at),
				BigInt(between) << at,
				what,
			);
	t.equal(withThoseThatJoin(undefined, 1n), 1n, "none held");
	t.end();
});

t.test("endpoints need neither an epoch nor a full pass, frontends an epoch", async (t) => {
	const { wanted, apply, tables } = paper();
	await apply();
	const { routeEpoch } = tables.readNodeConfig();
	wanted.backends.set(1, { address: "10.0.0.1", port: 80, service: 1 });
	wanted.services.set(1, service(0n));
	await apply();
	t.equal(tables.readNodeConfig().routeEpoch, routeEpoch);
	wanted.frontends.set("10.96.0.1 6 80", { service: 1, kind: FrontendKind.CLUSTER_IP });
	await apply();
	t.equal(tables.readNodeConfig().routeEpoch, routeEpoch + 1);
	for (const name of SERVICE_MAPS) {
		const maps = noMaps();
		putEntry(maps[name] as never, 1 as never, 1 as never);
		t.ok(concernsTablesOnly({ whole: false, values: {}, maps }), name);
	}
});

t.test("large arrays are read as far as they are in use", async (t) => {
	const { log, state, wanted, tables, apply } = paper();
	tables.backends.entries.set(5, { address: "10.0.0.1", port: 80, service: 1 });
	tables.backendStates.entries.set(0, BigInt(SERVES) << 40n);
	tables.serviceSlots.entries.set(2, 5);
	tables.services.entries.set(1, service(set(2, 1)));
	await state.adopt();
	t.same(log, [
		"read frontends all",
		"read serviceRanges all",
		"read backendStates all",
		"read backends 8",
		"read services 2",
		"read serviceSlots 3",
	]);
	t.same(new Map(state.services.backends), tables.backends.entries);
	for (const name of SERVICE_MAPS)
		for (const [key, value] of tables[name].entries) wanted[name].set(key as never, value as never);
	const written = (await apply()).log.filter((line) => !line.includes("nodeConfig"));
	t.same(written, [], "what is there stays");
	const reads = async () => {
		log.length = 0;
		await readAgain(state);
		return log.filter((line) => line.includes("backends"));
	};
	t.same(await reads(), ["read backends 6"]);
	wanted.backends.set(40, { address: "10.0.0.2", port: 80, service: 1 });
	await apply();
	t.same(await reads(), ["read backends 41"]);
});
