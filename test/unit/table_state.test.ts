/** What the maps hold, and what is still to be written, with maps of paper that refuse at will. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { atOnce } from "../../src/loop/turns.js";
import { Links } from "../../src/reconcile/links.js";
import type { AgentTables, EntryFailure } from "../../src/reconcile/maps/agent_tables.js";
import { TableState } from "../../src/reconcile/maps/table_state.js";
import { Wanted } from "../../src/reconcile/wanted.js";
import { noMaps, putEntry, removeEntry, wholeChanges } from "../../src/tables/changes.js";
import { diffMap } from "../../src/tables/diff.js";
import {
	type Endpoint,
	NodeConfig,
	NodeFlag,
	type Peer,
	type Route,
	RouteKind,
} from "../../src/tables/generated.js";
import { noServiceMaps, type Tables } from "../../src/tables/tables.js";
import { PaperPolicyMaps } from "../tools/paper_policy_maps.js";
import { readAgain } from "../tools/read_again.js";

class PaperTable<K, V> {
	readonly entries = new Map<K, V>();
	refuses = false;
	read() {
		return new Map(this.entries);
	}
	readAt() {
		return new Map(this.entries);
	}
	async hasChanged() {
		return true;
	}
	async *readInSlices() {
		for (const [key, value] of this.entries) yield new Map([[key, value]]);
	}
	put(entries: readonly (readonly [K, V])[]): EntryFailure<K>[] {
		if (this.refuses) return entries.map(([key]) => ({ key, message: "no" }));
		for (const [key, value] of entries) this.entries.set(key, value);
		return [];
	}
	remove(keys: readonly K[]): EntryFailure<K>[] {
		if (this.refuses) return keys.map((key) => ({ key, message: "no" }));
		for (const key of keys) this.entries.delete(key);
		return [];
	}
}

const nothing = NodeConfig.decode(Buffer.alloc(NodeConfig.size));

function paper(endpoints: [address: string, endpoint: Endpoint][] = []) {
	const tables = {
		...new PaperPolicyMaps().tables,
		peers: new PaperTable<number, Peer>(),
		peerAddresses: new PaperTable(),
		peerPaths: new PaperTable(),
		peerGateways: new PaperTable(),
		sourceAddresses: new PaperTable(),
		routes: new PaperTable<string, Route>(),
		endpoints: new PaperTable<string, Endpoint>(),
		frontends: new PaperTable(),
		services: new PaperTable(),
		serviceSlots: new PaperTable(),
		backends: new PaperTable(),
		backendStates: new PaperTable<number, bigint>(),
		serviceRanges: new PaperTable(),
		nodeConfig: new PaperTable<number, NodeConfig>(),
		readNodeConfig: () => tables.nodeConfig.entries.get(0) ?? nothing,
	};
	for (const [address, endpoint] of endpoints) tables.endpoints.entries.set(address, endpoint);
	const state = new TableState(tables as unknown as AgentTables);
	const wanted = {
		nodeConfig: { ...nothing, flags: NodeFlag.CONFIGURED },
		peers: new Map(),
		peerPaths: new Map(),
		peerAddresses: new Map(),
		peerGateways: new Map(),
		sourceAddresses: new Map(),
		routes: new Map([["10.0.0.0/8", { kind: RouteKind.HOST, flags: 0, peer: 0, mtu: 0 }]]),
		endpoints: new Map(),
		hostRoutes: new Map(),
		...noServiceMaps(),
	} as unknown as Tables;
	const up = { mtu: 1500, up: true, hasEthernet: true };
	const links = new Links([
		{ name: "fairway00000001", ifindex: 7, ...up },
		{ name: "fairway00000003", ifindex: 9, ...up },
	]);
	// Tables are replaced, never changed.
	const apply = () => state.apply(structuredClone(wanted), links, 1);
	const config = () => tables.readNodeConfig();
	return { tables, state, wanted, links, apply, config };
}

t.test("an epoch that could not be written is raised by the next apply", async (t) => {
	const { tables, wanted, apply, config } = paper();
	await apply();
	const { routeEpoch } = config();
	tables.nodeConfig.refuses = true;
	wanted.routes.set("10.0.0.0/9", { kind: RouteKind.HOST, flags: 0, peer: 0, mtu: 0 });
	t.match(await apply(), { problems: ["no"] });
	t.ok(tables.routes.entries.has("10.0.0.0/9"), "the route itself is written");
	tables.nodeConfig.refuses = false;
	t.same(await apply(), { writes: 1, problems: [] });
	t.equal(config().routeEpoch, routeEpoch + 1, "flows look again");
	t.same(await apply(), { writes: 0, problems: [] }, "once");
});

t.test("a next hop epoch that could not be written is raised by the next apply", async (t) => {
	const { tables, state, apply, config } = paper();
	await apply();
	const { nextHopEpoch } = config();
	tables.nodeConfig.refuses = true;
	state.raiseNextHopEpoch();
	t.equal(config().nextHopEpoch, nextHopEpoch);
	tables.nodeConfig.refuses = false;
	await apply();
	t.equal(config().nextHopEpoch, nextHopEpoch + 1);
});

t.test("what is read of a half-written configuration has the epoch of before", async (t) => {
	const { tables, state, wanted, apply, config } = paper();
	const written: NodeConfig[] = [];
	const put = tables.nodeConfig.put.bind(tables.nodeConfig);
	tables.nodeConfig.put = (entries) => {
		const failures = put(entries);
		if (failures.length === 0) written.push(...entries.map(([, value]) => value));
		return failures;
	};
	await apply();
	t.same(
		written.map(({ flags }) => flags),
		[0, NodeFlag.CONFIGURED],
		"the first one is valid when it is complete",
	);
	const { routeEpoch } = config();
	written.length = 0;
	wanted.nodeConfig.snatAddress6 = "fd00::9";
	tables.nodeConfig.refuses = true;
	await apply();
	tables.nodeConfig.refuses = false;
	t.match(await apply(), { problems: [] });
	t.match(written, [
		{ snatAddress6: "fd00::9", routeEpoch },
		{ snatAddress6: "fd00::9", routeEpoch: routeEpoch + 1 },
	]);
	written.length = 0;
	state.raiseRouteEpoch();
	t.match(written, [{ routeEpoch: routeEpoch + 2 }], "an epoch alone is one write");
});

t.test("epochs wrap, and a route epoch is never 0", async (t) => {
	const { tables, config } = paper();
	const last = { ...nothing, flags: NodeFlag.CONFIGURED, routeEpoch: 2 ** 32 - 1 };
	tables.nodeConfig.entries.set(0, last);
	const adopted = new TableState(tables as unknown as AgentTables);
	tables.nodeConfig.refuses = true;
	adopted.raiseRouteEpoch();
	tables.nodeConfig.refuses = false;
	adopted.raiseNextHopEpoch();
	t.match(config(), { routeEpoch: 1, nextHopEpoch: 1 });
});

t.test("an endpoint without its entry has a reason", async (t) => {
	const { tables, state, wanted, links, apply } = paper();
	const pod = { interface: "fairway00000001", mac: "02:00:00:00:00:01" };
	const gone = { ...pod, interface: "fairway00000002" };
	wanted.endpoints.set("10.0.0.2", pod).set("10.0.0.3", gone);
	tables.endpoints.refuses = true;
	await apply();
	t.equal(state.endpointProblem("10.0.0.2", pod, links), "no");
	tables.endpoints.refuses = false;
	await apply();
	t.equal(state.endpointProblem("10.0.0.2", pod, links), undefined);
	t.match(state.endpointProblem("10.0.0.3", gone, links), /its interface is gone/);
});

t.test("what someone else has written or removed is a difference for the next apply", async (t) => {
	const { tables, state, apply, config } = paper();
	await apply();
	t.equal(await readAgain(state), 0);
	const { routeEpoch } = config();
	tables.routes.entries.delete("10.0.0.0/8");
	tables.routes.entries.set("11.0.0.0/8", { kind: RouteKind.HOST, flags: 0, peer: 0, mtu: 0 });
	tables.nodeConfig.entries.set(0, nothing);
	t.equal(await readAgain(state), 3);
	t.same((await apply()).problems, []);
	t.same([...tables.routes.entries.keys()], ["10.0.0.0/8"]);
	t.match(config(), { flags: NodeFlag.CONFIGURED, routeEpoch: routeEpoch + 1 });
});

t.test("what an apply writes between the readings of two tables is no difference", async (t) => {
	const { tables, state, wanted, apply } = paper();
	await apply();
	let mtu = 1400;
	const change = () => {
		wanted.routes.set("10.0.0.0/8", { kind: RouteKind.HOST, flags: 0, peer: 0, mtu: mtu++ });
		return apply();
	};
	t.equal(await readAgain(state, change), 0);
	t.ok(mtu > 1408, "as many as there are tables");
	t.equal(tables.routes.entries.get("10.0.0.0/8")?.mtu, mtu - 1);
});

t.test(
	"random tables: only what differs is written, puts before removals, references last",
	async () => {
		const numbers = fc.array(fc.tuple(fc.nat(4), fc.nat(2)), { maxLength: 6 });
		const peersOf = (entries: [number, number][]) =>
			new Map(
				entries.map(([index, owner]) => [
					index,
					{ nodeHash: BigInt(owner), remote: "", policyEpoch: 0 },
				]),
			);
		const routesOf = (entries: [number, number][]) =>
			new Map(
				entries.map(([n, peer]) => [
					`10.${n}.0.0/16`,
					{ kind: RouteKind.PEER, flags: 0, peer, mtu: 0 },
				]),
			);
		const some = fc.record({ peers: numbers.map(peersOf), routes: numbers.map(routesOf) });
		await fc.assert(
			fc.asyncProperty(fc.array(some, { maxLength: 5 }), async (sequence) => {
				const { tables, state, wanted, links } = paper();
				const steps: string[] = [];
				for (const name of ["peers", "routes"] as const) {
					const table = tables[name] as PaperTable<unknown, unknown>;
					const [put, remove] = [table.put.bind(table), table.remove.bind(table)];
					table.put = (entries) => {
						steps.push(`put ${name} ${entries.map(([key]) => key).sort()}`);
						return put(entries);
					};
					table.remove = (keys) => {
						steps.push(`remove ${name} ${[...keys].sort()}`);
						return remove(keys);
					};
				}
				let before = { ...wanted, routes: new Map() } as Tables;
				for (const { peers, routes } of sequence) {
					const now = { ...wanted, peers, routes } as unknown as Tables;
					const [p, r] = [diffMap(before.peers, now.peers), diffMap(before.routes, now.routes)];
					const rows: [step: string, keys: unknown[]][] = [
						["put peers", p.put.map(([key]) => key)],
						["put routes", r.put.map(([key]) => key)],
						["remove routes", r.remove],
						["remove peers", p.remove],
					];
					const expected = rows
						.filter(([, keys]) => keys.length > 0)
						.map(([step, keys]) => `${step} ${[...keys].sort()}`);
					steps.length = 0;
					await state.apply(now, links, 1);
					assert.deepEqual(steps, expected);
					assert.deepEqual(tables.peers.entries, peers);
					assert.deepEqual(tables.routes.entries, routes);
					before = now;
				}
			}),
			{ numRuns: 300 },
		);
	},
);

t.test(
	"random changes of a few keys: the maps are as if all of it had been wanted anew",
	async () => {
		const change = fc.record({
			table: fc.constantFrom("peers" as const, "routes" as const),
			key: fc.nat(4),
			value: fc.option(fc.nat(2), { nil: undefined }),
			refused: fc.boolean(),
		});
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 6 }),
				async (rounds) => {
					const { tables, state, wanted, links } = paper();
					const wants = new Wanted((table, key) => {
						if (table !== "hostRoutes" && table !== "endpoints") state.check(table, key);
					});
					atOnce(wants.take(wholeChanges({ ...wanted, routes: new Map() })));
					await state.apply(wants.tables!, links, 1);
					for (const round of rounds) {
						const maps = noMaps();
						for (const { table, key, value, refused } of round) {
							tables[table].refuses = refused;
							const nodeHash = BigInt(value ?? 0);
							const peer = { nodeHash, remote: "", policyEpoch: 0 } as Peer;
							const route = { kind: RouteKind.PEER, flags: 0, peer: value ?? 0, mtu: 0 };
							if (table === "peers" && value === undefined) removeEntry(maps.peers, key);
							else if (table === "peers") putEntry(maps.peers, key, peer);
							else if (value === undefined) removeEntry(maps.routes, `10.${key}.0.0/16`);
							else putEntry(maps.routes, `10.${key}.0.0/16`, route);
						}
						atOnce(wants.take({ whole: false, values: {}, maps }));
						await state.apply(wants.tables!, links, 1);
					}
					tables.peers.refuses = false;
					tables.routes.refuses = false;
					await state.apply(wants.tables!, links, 1);
					assert.deepEqual(tables.peers.entries, new Map(wants.tables!.peers));
					assert.deepEqual(tables.routes.entries, wants.tables!.routes);
				},
			),
			{ numRuns: 500 },
		);
	},
);

t.test("another path for a peer reaches whole tables that are being taken in", async (t) => {
	const { wanted } = paper();
	const peer = (remote: string) => ({ nodeHash: 1n, remote }) as Peer;
	const many = new Map(Array.from({ length: 600 }, (_, index) => [index, peer("a")]));
	const tables = { ...wanted, peers: new Map(many), peerPaths: new Map(many) };
	// At any of the moments at which others may run.
	for (let moment = 0, done = false; !done; moment++) {
		const wants = new Wanted(() => {});
		const changes = wholeChanges({ ...tables, peers: new Map(many) });
		wants.expect(changes);
		const steps = wants.take(changes);
		for (let step = 0; step < moment && !done; step++) done = steps.next().done === true;
		wants.putPath(599, peer("b"));
		atOnce(steps);
		t.equal(wants.tables?.peers.get(599)?.remote, "b", `after ${moment} steps`);
	}
});

t.test("another path for a peer reaches changes that are still to be taken in", async (t) => {
	const wants = new Wanted(() => {});
	const peer = (remote: string, nodeHash = 1n) => ({ nodeHash, remote }) as Peer;
	const { wanted } = paper();
	atOnce(wants.take(wholeChanges({ ...wanted, peers: new Map([[0, peer("a")]]) })));
	const changes = { whole: false as const, values: {}, maps: noMaps() };
	putEntry(changes.maps.peers, 0, peer("b"));
	putEntry(changes.maps.peers, 2, peer("b", 2n));
	wants.expect(changes);
	wants.putPath(0, peer("c"));
	wants.putPath(2, peer("d", 3n));
	t.equal(wants.tables?.peers.get(0)?.remote, "c");
	t.equal(wants.tables?.peers.get(2), undefined);
	atOnce(wants.take(changes));
	t.equal(wants.tables?.peers.get(0)?.remote, "c");
	t.equal(wants.tables?.peers.get(2)?.remote, "b", "not that of another Node");
});

const POD = { interface: "fairway00000001", mac: "02:00:00:00:00:01" };
const ADDRESS = "10.0.0.2";

function policiesOf(endpoint: string, ingress: number, address = ADDRESS) {
	const value = { egress: 1, ingress, endpoint };
	return {
		writes: [{ step: 5, table: "endpointPolicies" as const, key: address, value }],
		epochs: { route: true, peers: new Set<string>() },
		...{ hasGarbage: false, problems: [] },
	};
}

t.test("a Pod is closed until its policies are known, and has them at once", async (t) => {
	const { tables, state, wanted, apply, config } = paper();
	wanted.endpoints.set(ADDRESS, POD);
	await apply();
	const element = () => tables.endpoints.entries.get(ADDRESS);
	t.match(element(), { ifindex: 7, egressPolicy: 0, ingressPolicy: 0 });
	const { routeEpoch } = config();
	await state.policies.change(policiesOf("fairway00000003", 5));
	t.match(element(), { egressPolicy: 0, ingressPolicy: 0 }, "not those of another Pod");
	t.equal(config().routeEpoch, routeEpoch + 1);
	await state.policies.change(policiesOf("fairway00000001", 5));
	t.match(element(), { egressPolicy: 1, ingressPolicy: 5 }, "without an apply");
	t.same(state.endpointPolicies(ADDRESS), { egress: 1, ingress: 5 });
	t.match(await apply(), { writes: 0 });
	wanted.endpoints.set(ADDRESS, { ...POD, interface: "fairway00000003" });
	await apply();
	t.match(
		element(),
		{ ifindex: 9, egressPolicy: 0, ingressPolicy: 0 },
		"another Pod's address now",
	);
});

t.test("whatever an apply is doing, it leaves a Pod the newest policies", async (t) => {
	for (let at = 0; ; at++) {
		const { tables, state, wanted, links, apply } = paper();
		await apply();
		await state.policies.change(policiesOf("fairway00000001", 5));
		wanted.endpoints.set(ADDRESS, POD);
		wanted.peers.set(1, { nodeHash: 1n, remote: "", policyEpoch: 0 } as Peer);
		const steps = state.applySteps(structuredClone(wanted), links, 1);
		let done = false;
		for (let step = 0; step < at && !done; step++) done = steps.next().done === true;
		const change = state.policies.change(policiesOf("fairway00000001", 6));
		await change;
		while (!done) done = steps.next().done === true;
		const { ingressPolicy } = tables.endpoints.entries.get(ADDRESS) ?? {};
		if (ingressPolicy !== 6) t.fail(`interrupted after ${at} steps: ${ingressPolicy}`);
		t.equal(state.endpointProblem(ADDRESS, POD, links), undefined, `interrupted after ${at} steps`);
		if (at > 40) break;
	}
});

t.test(
	"until the first changes Pods have what an earlier agent gave them, if they are the same",
	async (t) => {
		const former = { ifindex: 7, mac: POD.mac, index: 1, egressPolicy: 3, ingressPolicy: 4 };
		const { tables, state, wanted, apply } = paper([
			[ADDRESS, former],
			["10.0.0.3", { ...former, ifindex: 8, index: 2 }],
		]);
		wanted.endpoints.set(ADDRESS, POD).set("10.0.0.3", { ...POD, interface: "fairway00000003" });
		await apply();
		const { entries } = tables.endpoints;
		t.match(entries.get(ADDRESS), { egressPolicy: 3, ingressPolicy: 4 });
		t.match(entries.get("10.0.0.3"), { ifindex: 9, egressPolicy: 0, ingressPolicy: 0 });
		t.same(
			[...new Set((await state.policies.adopt()).policies)].sort(),
			[0, 3, 4],
			"are not given",
		);
		await state.policies.change(policiesOf("fairway00000003", 9, "10.0.0.3"));
		t.match(entries.get("10.0.0.3"), { egressPolicy: 1, ingressPolicy: 9 });
		await apply();
		t.match(
			entries.get(ADDRESS),
			{ egressPolicy: 0, ingressPolicy: 0 },
			"the changes say nothing of it",
		);
	},
);

t.test("an element that could not be written gets its policies with the next try", async (t) => {
	const { tables, state, wanted, apply, links } = paper();
	wanted.endpoints.set(ADDRESS, POD);
	await apply();
	tables.endpoints.refuses = true;
	t.match(await state.policies.change(policiesOf("fairway00000001", 5)), { problems: ["no"] });
	t.match(state.endpointProblem(ADDRESS, POD, links), /Cannot find the policies of 10\.0\.0\.2/);
	tables.endpoints.refuses = false;
	t.same((await state.policies.change()).problems, []);
	t.match(tables.endpoints.entries.get(ADDRESS), { ingressPolicy: 5 });
});

t.test("whoever writes a peer leaves its policy epoch as it is", async (t) => {
	const { tables, state, wanted, apply, config } = paper();
	const peer = (remote: string, nodeHash = 1n) => ({ nodeHash, remote, policyEpoch: 0 }) as Peer;
	wanted.peers.set(2, peer("a")).set(3, peer("a"));
	await apply();
	const epochs = () => [2, 3].map((index) => tables.peers.entries.get(index)?.policyEpoch);
	const raise = (...names: string[]) =>
		state.policies.change(
			{ ...policiesOf("", 0), writes: [], epochs: { route: false, peers: new Set(names) } },
			(name) => ({ a: 1, b: 2 })[name],
		);
	let { routeEpoch } = config();
	await raise("a");
	t.same(epochs(), [1, 1]);
	t.equal(config().routeEpoch, routeEpoch);
	t.equal(state.peers.get(2)?.policyEpoch, 0, "nobody else sees it");
	state.putPath(2, peer("c"));
	t.match(tables.peers.entries.get(2), { remote: "c", policyEpoch: 1 });
	wanted.peers.set(2, peer("d")).set(3, peer("d", 7n));
	await apply();
	t.match(tables.peers.entries.get(2), { remote: "d", policyEpoch: 1 });
	t.match(tables.peers.entries.get(3), { nodeHash: 7n, policyEpoch: 1 }, "of another Node, too");
	t.match(await apply(), { writes: 0 });
	t.equal(await readAgain(state), 0);

	({ routeEpoch } = config());
	await raise("b");
	t.equal(config().routeEpoch, routeEpoch + 1, "a Node that is no peer: all flows look again");
	for (let round = 2; round < 2 ** 16; round++) await raise("a");
	t.same(epochs(), [65_535, 65_535]);
	t.equal(config().routeEpoch, routeEpoch + 1);
	await raise("a");
	t.same(epochs(), [0, 0]);
	t.equal(config().routeEpoch, routeEpoch + 2, "an epoch of long ago must not pass for current");
});
