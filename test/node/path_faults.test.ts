/**
 * Paths under network faults in hybrid mode, where direct paths must be proven. Each fault happens under numbered
 * UDP streams with echo and TCP in both directions. Its end, and the agents' reasons, must be right. Durations
 * are recorded in docs/FAULTS.md (FAIRWAY_RECORD=1) and by bench/failover.ts.
 *
 *       pod1a         pod2a              pod3a
 *       node1         node2              node3
 *         └──── net1 ────┘                 └── net2
 *                 └─────────── router ──────┘
 */
import t, { type Test } from "tap";
import { ask } from "../../src/api/client.js";
import type { PathEvent } from "../../src/api/messages/paths.js";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import { command } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";
import { type Cluster, type Settings, startCluster } from "../tools/cluster.js";
import { FaultTable } from "../tools/fault_table.js";
import { type Fault, Faults } from "../tools/faults.js";
import { BulkStreams, costSince, now, Streams } from "../tools/streams.js";

const SETTINGS: Settings = {
	trafficEncapMode: "hybrid",
	hybrid: { tryDirectCIDRs: ["192.168.0.0/16", "fd00:192:168::/48"] },
	probes: { holdTime: 2, holdTimeMax: 8 },
};

interface Case {
	fault: string;
	/** The Nodes of the path, and their Pods. */
	pair?: readonly [node: string, peer: string, pods: readonly [string, string]];
	/** The path before, and during the fault. */
	before: PeerStatus["path"];
	ends: PeerStatus["path"];
	mtu?: number;
	/** The reason in `peers` of the first Node, and of the second. */
	words: RegExp;
	wordsThere?: RegExp;
	/** Only the first Node is affected. */
	oneSided?: boolean;
	/** Afterwards no path may change for this long. */
	staysMs?: number;
	/** The path recovers during the fault: the reason is checked when packets flow again. */
	heals?: boolean;
	/** No traffic during the fault. */
	dead?: boolean;
	/** TCP is not expected to continue: its state is lost, or it waits for long. */
	withoutTcp?: boolean;
	inject: (faults: Faults) => Promise<Fault>;
}

const NEAR = ["node1", "node2", ["pod1a", "pod2a"]] as const;
const FAR = ["node1", "node3", ["pod1a", "pod3a"]] as const;

const CASES: Case[] = [
	{
		fault: "source check of both Nodes",
		before: "direct",
		ends: "geneve",
		words:
			/^geneve: direct path drops our source address, and node2's; is the source\/destination check on\?/,
		wordsThere: /^geneve: direct path drops our source address, and node1's;/,
		inject: (faults) => faults.sourceCheck("all"),
	},
	{
		fault: "source check of one Node",
		before: "direct",
		ends: "geneve",
		words: /^geneve: direct path drops our source address; is the source\/destination check on\?/,
		wordsThere:
			/^geneve: direct path drops node1's source address; is the source\/destination check on there\?/,
		inject: (faults) => faults.sourceCheck("node1"),
	},
	{
		fault: "black hole for Pod packets",
		before: "direct",
		ends: "geneve",
		words: /^geneve: direct path drops/,
		inject: (faults) => faults.blackhole("node1", { peer: "node2", what: "pods" }),
	},
	{
		fault: "smaller MTU on one link (1400)",
		before: "direct",
		ends: "direct",
		mtu: 1400,
		words: /^direct: \d+ of \d+ probes answered, 1400 bytes of 1500 get through/,
		inject: (faults) => faults.smallerMtu("node2", 1400),
	},
	{
		fault: "smaller MTU in one direction (1400)",
		// Other Pods: the previous ones have learned 1400, and keep that for ten minutes.
		pair: ["node1", "node2", ["pod1b", "pod2b"]],
		before: "direct",
		ends: "direct",
		mtu: 1400,
		words: /1400 bytes of 1500 get through/,
		oneSided: true,
		inject: (faults) => faults.smallerMtu("node2", 1400, "to"),
	},
	{
		fault: "20 % loss of Pod packets, one way",
		before: "direct",
		ends: "geneve",
		words: /^geneve: the direct path (loses|lost) \d+ % of probes/,
		inject: (faults) => faults.randomLoss("node2", 0.2, { direction: "to", what: "pods" }),
	},
	{
		fault: "20 % loss of everything",
		before: "direct",
		ends: "direct",
		words: /^direct: \d+ of \d+ probes answered/,
		staysMs: 5000,
		withoutTcp: true,
		inject: (faults) => faults.randomLoss("node2", 0.2, { direction: "to", what: "all" }),
	},
	{
		fault: "direct path flaps each 2 s",
		before: "direct",
		ends: "geneve",
		words: /^geneve: (direct path drops|the direct path)/,
		staysMs: 8000,
		inject: (faults) =>
			faults.flapping(() => faults.blackhole("node1", { peer: "node2", what: "pods" }), 4000),
	},
	{
		fault: "dead peer",
		before: "direct",
		ends: "down",
		words: /^down: neither the direct path nor geneve has been answered for/,
		dead: true,
		staysMs: 3000,
		inject: (faults) => faults.blackhole("node2", { what: "all" }),
	},
	{
		fault: "ARP goes unanswered",
		before: "direct",
		ends: "down",
		words: /^down: neither the direct path nor geneve has been answered for/,
		dead: true,
		inject: (faults) => faults.silentArp("node2"),
	},
	{
		fault: "peer's NIC has another MAC",
		before: "direct",
		ends: "direct",
		words: /^direct: \d+ of \d+ probes answered, 1500 bytes/,
		heals: true,
		inject: (faults) => faults.newMac("node2"),
	},
	{
		fault: "router learns the pod CIDRs",
		pair: FAR,
		before: "geneve",
		ends: "routed",
		words: /^routed: \d+ of \d+ probes answered, 1500 bytes/,
		inject: (faults) => faults.routerWithPods(),
	},
];

const table = new FaultTable();

t.test("faults", async (t) => {
	const cluster = await startCluster(t, SETTINGS);
	await cluster.serve("pod2a", "pod2b", "pod3a");
	await t.test("explain names the proof of a path", async (t) => {
		const { lab } = cluster;
		for (const [to, proof] of [
			["pod2a", /^direct: \d+ of \d+ probes answered, 1500 bytes, [\d.]+ ms\.$/],
			["pod3a", /^geneve: the direct path is not routed/],
		] as const) {
			const [source, destination] = [lab.address("pod1a", 4), lab.address(to, 4)];
			const { reason } = await lab.agent("node1").explain({ source, destination, protocol: "tcp" });
			t.match(reason, proof);
		}
	});
	await t.test("check reports what each mode would do", async (t) => {
		const { stdout, status } = await cluster.lab.run("node1", [
			...[command("fairway"), "check", "--run-dir", cluster.lab.agent("node1").runDirectory],
		]);
		t.match(stdout, /hybrid: +2 paths direct, 4 in geneve\n/);
		t.match(stdout, /noEncap: 2 paths direct; would break 4 paths: node3/);
		t.match(stdout, /encap: +6 paths in geneve\n/);
		t.equal(status, 0, "the mode in force loses nobody");
	});
	const only = process.env.FAIRWAY_FAULT;
	for (const one of CASES)
		if (only === undefined || one.fault.includes(only))
			await t.test(one.fault, (t) => examine(t, cluster, one));
	if (only !== undefined && !only.includes("router")) return;

	await t.test("router forgets the pod CIDRs", async (t) => {
		const faults = new Faults(t, cluster.lab);
		await faults.routerWithPods();
		await examine(t, cluster, {
			fault: "router forgets the pod CIDRs",
			pair: FAR,
			before: "routed",
			ends: "geneve",
			words:
				/^geneve: the direct path is not routed; do the routers know the pod CIDRs of both Nodes\?/,
			inject: async (faults) => {
				const fault = await faults.routerWithoutPods();
				const undo = () => cluster.lab.underlay.setRouterKnowsPods(true);
				return { name: fault.name, undo, dropped: () => fault.dropped() };
			},
		});
	});

	await t.test("reboot of the peer", (t) =>
		examine(t, cluster, {
			fault: "reboot of the peer",
			before: "direct",
			ends: "down",
			words: /^down: neither/,
			dead: true,
			withoutTcp: true,
			inject: (faults) => faults.stopNode("node2"),
		}),
	);

	await t.test("noEncap has nothing to fall back to", async (t) => {
		await cluster.lab.underlay.setRouterKnowsPods(true);
		t.teardown(() => cluster.lab.underlay.setRouterKnowsPods(false));
		await cluster.configure({ ...SETTINGS, trafficEncapMode: "noEncap" });
		await examine(t, cluster, {
			fault: "black hole for Pod packets",
			before: "direct",
			ends: "direct",
			words: /^direct: \d+ of \d+ probes answered, and noEncap has nothing to fall back to/,
			dead: true,
			inject: (faults) => faults.blackhole("node1", { peer: "node2", what: "pods" }),
		});
	});
	table.finish(t);
});

async function examine(t: Test, cluster: Cluster, one: Case): Promise<void> {
	const [node, peer, pods] = one.pair ?? NEAR;
	const { before, ends, words, wordsThere = words, dead = false } = one;
	await settle(cluster, node, peer, before);
	const pairs = ([4, 6] as const).map((family) => [...pods, family] as const);
	const streams = await Streams.start(cluster, pairs);
	const bulk = one.withoutTcp ? undefined : await BulkStreams.start(cluster, pairs);
	const faults = new Faults(t, cluster.lab);
	const [began, beganEpoch] = [now(), Date.now()];
	const fault = await one.inject(faults);

	if (one.heals) {
		await new Promise((resolve) => setTimeout(resolve, 1000));
		await streams.echoed(500, 60_000);
	}
	// A lossy path is retried from time to time, and its reason changes with each try: every view must give
	// the right reason, but not all at the same moment.
	const told = new Map<string, string>();
	const { reason } = await until(
		`${node} and ${peer} to say what has happened`,
		async () => {
			const views = [
				...(await pathsTo(cluster, node, peer)).map((view) => ({ at: node, view, words })),
				...(dead || one.oneSided ? [] : await pathsTo(cluster, peer, node)).map((view) => ({
					at: peer,
					view,
					words: wordsThere,
				})),
			];
			for (const { at, view, words } of views)
				if (words.test(view.reason)) told.set(`${at} ${view.family}`, view.reason);
			const right = views.every(
				({ at, view }) =>
					view.path === ends &&
					(one.mtu === undefined || view.mtu === one.mtu) &&
					told.has(`${at} ${view.family}`),
			);
			return right ? { reason: told.get(`${node} 4`) ?? "" } : undefined;
		},
		30_000,
	).catch(async (error: Error) => {
		const all = [
			...(await pathsTo(cluster, node, peer)),
			...(await pathsTo(cluster, peer, node).catch(() => [])),
		];
		throw new Error(
			`${error.message}; ${all.map(({ path, mtu, reason }) => `${path} ${mtu} ${reason}`).join(" | ")}`,
		);
	});
	const [shownMs, changed] = [now() - began, one.mtu === undefined];
	const first = (await eventsOf(cluster, node, peer)).find(
		({ time }) => Date.parse(time) >= beganEpoch,
	);
	const event = first === undefined ? undefined : Date.parse(first.time) - beganEpoch;
	// A change of size alone is not an event.
	const detectMs = changed ? event : shownMs;

	if (one.staysMs !== undefined) {
		const changes = () =>
			pathsTo(cluster, node, peer).then((all) => all.map((view) => view.changes));
		const then = await changes();
		await new Promise((resolve) => setTimeout(resolve, one.staysMs));
		t.same(await changes(), then, "and so it stays");
	}
	if (!dead && ends !== before) await streams.goOn(200);
	if (!dead) await bulk?.goOn(100_000);

	// After the fault is undone, everything recovers by itself.
	const undone = now();
	await fault.undo();
	await settle(cluster, node, peer, before);
	await streams.echoed(200, 30_000);
	await bulk?.goOn(100_000, 60_000);
	const losses = await streams.stop();
	const tcp = await bulk?.stop();
	const costs = costSince(losses, began, dead ? undefined : undone);
	const lost = Math.max(...costs.map(({ lost }) => lost));
	t.comment(`${one.fault}: detected after ${detectMs} ms, ${lost} lost: ${reason}`);
	t.same(
		losses.map(({ duplicates }) => duplicates),
		losses.map(() => 0),
		"nothing came twice",
	);
	table.add({
		fault: one.fault,
		mode: cluster.settings.trafficEncapMode ?? "encap",
		detectMs,
		lost: {
			udp: lost,
			tcpStallMs: Math.max(0, ...(tcp ?? []).map(({ longestStallMs }) => longestStallMs)),
		},
		endState: one.mtu === undefined ? ends : `${ends}, ${one.mtu} bytes`,
		words: steady(reason),
	});
}

async function settle(cluster: Cluster, node: string, peer: string, path: string): Promise<void> {
	for (const [from, to] of [
		[node, peer],
		[peer, node],
	] as const) {
		let views: PeerStatus[] = [];
		await until(
			`${from} to take ${path} to ${to}`,
			async () => {
				views = await pathsTo(cluster, from, to);
				return views.every(
					(view) => view.path === path && (path !== "direct" || view.mtu === 1500),
				);
			},
			60_000,
		).catch((error: Error) => {
			throw new Error(`${error.message}: ${views.map(({ reason }) => reason).join(" ")}`);
		});
	}
}

async function pathsTo({ lab }: Cluster, node: string, peer: string): Promise<PeerStatus[]> {
	return (await lab.agent(node).peers()).filter((view) => view.node === peer);
}

async function eventsOf({ lab }: Cluster, node: string, peer: string): Promise<PathEvent[]> {
	const events = await ask<PathEvent[]>(lab.agent(node).socket, "GET", "/events");
	return events.filter((event) => event.node === peer);
}

/** The part of a reason that is the same in every run. */
function steady(reason: string): string {
	return reason
		.replace(/\d+ of \d+ probes/, "… of … probes")
		.replace(/[\d.]+ ms/, "… ms")
		.replace(/\d+ %/g, "… %")
		.replace(/for [\d.]+ s/, "for … s");
}
