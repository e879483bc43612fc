/** Compiling what has changed: the same as compiling everything, at the cost of the change. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import { type CompileInput, compile, type PeerView } from "../../src/compile/compile.js";
import { Compiler } from "../../src/compile/compiler.js";
import type { ProbedPeer } from "../../src/compile/peer.js";
import { atOnce } from "../../src/loop/turns.js";
import { isEmpty, takeEntries } from "../../src/tables/changes.js";
import { RouteKind } from "../../src/tables/generated.js";
import { MAPS, type Tables } from "../../src/tables/tables.js";
import { compileInput, nodeName, nodeObject } from "../tools/arbitrary.js";
import { takeIn } from "../tools/taken_tables.js";

/** A compiler, and what has come out of it so far. */
class Follower {
	readonly compiler = new Compiler();
	tables: Tables | undefined;
	peers = new Map<number, PeerView>();
	probed = new Map<number, ProbedPeer>();
	/** Entries of the last changes. */
	entries = 0;

	follow(input: CompileInput) {
		const result = atOnce(this.compiler.update(input));
		if (!result.ready) return result;
		const { tables, peers, probed } = result;
		this.tables = takeIn(this.tables, tables);
		if (tables.whole) {
			this.peers = new Map();
			this.probed = new Map();
		}
		takeEntries(this.peers, peers);
		takeEntries(this.probed, probed);
		this.entries = 0;
		for (const name of MAPS)
			this.entries += tables.maps[name].put.size + tables.maps[name].remove.size;
		return result;
	}

	/** Throws where it differs from what compile makes of the same. */
	compare(input: CompileInput): boolean {
		const whole = compile(input);
		const result = this.follow(input);
		assert.equal(result.ready, whole.ready);
		assert.deepEqual(result.problems, whole.problems);
		if (!whole.ready) return false;
		assert.ok(result.ready);
		assert.deepEqual(this.tables, whole.tables);
		assert.deepEqual(result.self, whole.self);
		const byIndex = <T>(entries: [number, T][]) => new Map(entries.sort(([a], [b]) => a - b));
		const views = whole.peers.map((view): [number, PeerView] => [
			view.id * 2 + (view.family === 6 ? 1 : 0),
			view,
		]);
		assert.deepEqual(byIndex([...this.peers]), byIndex(views));
		const probed = whole.probed.map((peer): [number, ProbedPeer] => [peer.index, peer]);
		assert.deepEqual(byIndex([...this.probed]), byIndex(probed));
		return true;
	}
}

type Change =
	| { kind: "node"; node: NodeObject }
	| { kind: "gone"; name: string }
	| { kind: "id"; name: string; id: number | undefined }
	| { kind: "other"; from: CompileInput; what: "config" | "network" | "endpoints" }
	| { kind: "verdict"; from: CompileInput }
	| { kind: "forgotten" };

const change: fc.Arbitrary<Change> = fc.oneof(
	{ weight: 4, arbitrary: nodeObject(nodeName).map((node): Change => ({ kind: "node", node })) },
	{ weight: 2, arbitrary: nodeName.map((name): Change => ({ kind: "gone", name })) },
	{
		weight: 1,
		arbitrary: fc
			.tuple(nodeName, fc.option(fc.nat(20), { nil: undefined }))
			.map(([name, id]): Change => ({ kind: "id", name, id })),
	},
	{ weight: 3, arbitrary: compileInput.map((from): Change => ({ kind: "verdict", from })) },
	{
		weight: 2,
		arbitrary: fc
			.tuple(
				compileInput,
				fc.constantFrom("config" as const, "network" as const, "endpoints" as const),
			)
			.map(([from, what]): Change => ({ kind: "other", from, what })),
	},
	{ weight: 1, arbitrary: fc.constant<Change>({ kind: "forgotten" }) },
);

/** Several changes at once, time and again. */
const changes = fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 8 });

/** As PeerIds gives them: no two Nodes have one. */
function giveId(ids: Map<string, number>, name: string, id: number | undefined): string[] {
	const former = [...ids].find(([other, taken]) => taken === id && other !== name)?.[0];
	if (former !== undefined) ids.delete(former);
	if (id === undefined) ids.delete(name);
	else ids.set(name, id);
	return former === undefined ? [name] : [name, former];
}

t.test("after any changes, the tables are those of the whole compile", async () => {
	let compared = 0;
	fc.assert(
		fc.property(compileInput, changes, (first, sequence) => {
			const nodes = new Map(first.snapshot.nodes);
			const ids = new Map(first.peerIds as ReadonlyMap<string, number>);
			let input: CompileInput = { ...first, snapshot: { nodes }, peerIds: ids };
			const follower = new Follower();
			follower.compare(input);
			for (const together of sequence) {
				for (const change of together) {
					if (change.kind === "node") {
						const { name } = change.node;
						nodes.set(name, change.node);
						const free = Array.from({ length: 40 }, (_, id) => id).find(
							(id) => ![...ids.values()].includes(id),
						);
						if (!ids.has(name) && name !== input.nodeName) giveId(ids, name, free);
						follower.compiler.noteNodes([name]);
					} else if (change.kind === "gone") {
						nodes.delete(change.name);
						follower.compiler.noteNodes([change.name, ...giveId(ids, change.name, undefined)]);
					} else if (change.kind === "id") {
						follower.compiler.noteNodes(giveId(ids, change.name, change.id));
					} else if (change.kind === "verdict") {
						const { verdicts = new Map() } = change.from;
						for (let index = 0; index < 80; index++) follower.compiler.noteVerdict(index);
						input = { ...input, verdicts };
					} else if (change.kind === "other") {
						input = { ...input, [change.what]: change.from[change.what] };
					} else follower.compiler.forget();
				}
				if (follower.compare(input)) compared++;
			}
		}),
		{ numRuns: 1000 },
	);
	assert.ok(compared > 300, `only ${compared} were ready`);
});

t.test("the short way of a verdict: one entry, as if all had been compiled anew", async () => {
	let compared = 0;
	fc.assert(
		fc.property(compileInput, compileInput, (input, { verdicts: later }) => {
			const follower = new Follower();
			follower.follow(input);
			const before = compile(input);
			if (!before.ready || !later) return;
			for (const [index, peer] of before.tables.peers) {
				const verdict = later.get(index);
				const known = input.verdicts;
				const verdicts = { get: (key: number) => (key === index ? verdict : known?.get(key)) };
				const after = compile({ ...input, verdicts });
				assert.ok(after.ready);
				const entry = follower.compiler.entry(index, verdict);
				assert.deepEqual(entry ?? peer, after.tables.peers.get(index));
				before.tables.peers.set(index, entry ?? peer);
				// The kernel's route has the MTU; nothing else may differ.
				after.tables.hostRoutes = before.tables.hostRoutes;
				assert.deepEqual(after.tables, before.tables);
				before.tables.peers.set(index, peer);
				compared++;
			}
		}),
		{ numRuns: 1000 },
	);
	assert.ok(compared > 0, `${compared} compared`);
});

const node = (n: number): NodeObject => ({
	name: `n${n}`,
	podCIDRs: [`10.${100 + (n >> 8)}.${n & 255}.0/24`],
	internalIPs: [`172.16.${n >> 8}.${n & 255}`],
	transportAddresses: [`172.16.${n >> 8}.${n & 255}`],
});

t.test("the changes of one peer do not depend on how many there are", async (t) => {
	const { parseConfig } = await import("../../src/config/parse.js");
	const parsed = parseConfig("snat: {excludeCIDRs: [10.0.0.0/8]}", "config.yaml");
	if ("errors" in parsed) throw new Error("the test's own configuration is invalid");
	const network = {
		interfaces: [
			{
				...{ name: "eth0", index: 2, mac: "02:00:00:00:00:01", mtu: 1500, up: true },
				addresses: [{ address: "172.16.0.0", prefixLength: 16 }],
			},
		],
		routes: [{ prefix: "172.16.0.0/16", device: "eth0", metric: 0 }],
	};
	for (const count of [2, 500]) {
		const nodes = new Map(Array.from({ length: count + 1 }, (_, n) => [`n${n}`, node(n)]));
		const ids = new Map(Array.from({ length: count }, (_, n) => [`n${n + 1}`, n]));
		const pods: { addresses: string[]; mac: string; hostInterface: string }[] = [];
		const input: CompileInput = {
			...{ config: parsed.config, network, nodeName: "n0", peerIds: ids, endpoints: pods },
			snapshot: { nodes },
		};
		const follower = new Follower();
		follower.follow(input);
		const rows: [what: string, change: () => void, entries: number][] = [
			["nothing", () => {}, 0],
			[
				"another address",
				() => {
					nodes.set("n1", {
						...node(1),
						internalIPs: ["172.16.9.9"],
						transportAddresses: ["172.16.9.9"],
					});
					follower.compiler.noteNodes(["n1"]);
				},
				// Removals of what a peer may have count as well.
				11,
			],
			["a verdict", () => follower.compiler.noteVerdict(0), 6],
			[
				"a Node less",
				() => {
					nodes.delete("n2");
					ids.delete("n2");
					follower.compiler.noteNodes(["n2"]);
				},
				10,
			],
			[
				"a Pod",
				() =>
					pods.push({
						addresses: ["10.100.0.2"],
						mac: "02:00:00:00:00:02",
						hostInterface: "fairway1",
					}),
				1,
			],
		];
		for (const [what, change, entries] of rows) {
			change();
			const result = follower.follow(input);
			t.ok(result.ready && !result.tables.whole, what);
			t.equal(result.ready && isEmpty(result.tables), entries === 0, what);
			t.equal(follower.entries, entries, `${what}, of ${count} peers`);
		}
		t.equal(follower.tables?.routes.get("10.100.1.0/24")?.kind, RouteKind.PEER);
	}
});
