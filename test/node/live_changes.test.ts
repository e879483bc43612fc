/**
 * Changes under open connections: every mode to every other, tunnel types and ports, at once and Node by Node,
 * paths that become narrower, agents that stop. Numbered UDP streams of 1,000 packets a second with echo lose
 * nothing, and TCP in both directions continues.
 *
 *   pod1a pod1b   pod2a pod2b         pod3a pod3b   pod4a
 *      node1         node2               node3      node4       each with a configuration of its own
 *        └──── net1 ───┘                   └── net2 ──┘
 *                └─────── router, which knows the pod CIDRs
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { ask } from "../../src/api/client.js";
import type { PathEvent } from "../../src/api/messages/paths.js";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { Cluster, type Settings, startCluster } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { Faults } from "../tools/faults.js";
import { BulkStreams, fullSize, lossy, Streams } from "../tools/streams.js";

const NODES = ["node1", "node2", "node3", "node4"];
const FAMILIES = [4, 6] as const;
const PAIRS = (["pod2a", "pod3a"] as const).flatMap((to) =>
	FAMILIES.map((family) => ["pod1a", to, family] as const),
);
const FIRST: Settings = { trafficEncapMode: "encap", tunnelType: "geneve" };

/** Every mode after every other. */
const MODES: Settings[] = (
	["hybrid", "noEncap", "encap", "noEncap", "hybrid", "encap"] as const
).map((trafficEncapMode) => ({ trafficEncapMode }));

/** Settings that are rolled out Node by Node. */
const ROLLED: Settings[] = [
	{ trafficEncapMode: "encap", tunnelType: "vxlan" },
	{ trafficEncapMode: "encap", tunnelType: "vxlan", tunnelPort: 7000 },
	{ trafficEncapMode: "hybrid", tunnelType: "geneve", tunnelPort: 7001 },
	{ trafficEncapMode: "noEncap", tunnelType: "geneve" },
	{ trafficEncapMode: "encap", tunnelType: "geneve" },
];

class Nodes {
	readonly cluster: Cluster;
	private readonly directory: string;

	constructor(cluster: Cluster, directory: string) {
		this.cluster = cluster;
		this.directory = directory;
	}

	/** Resolves when the agent has the settings, and the resulting paths to the other Nodes, in force. */
	async configure(node: string, settings: Settings): Promise<void> {
		writeFileSync(configFile(this.directory, node), JSON.stringify(settings));
		const { trafficEncapMode: mode, tunnelType = "geneve" } = settings;
		const expected = new Cluster(this.cluster.lab, settings);
		await until(`${node} in ${mode} with its paths`, async () => {
			const agent = this.cluster.lab.agent(node);
			const [status, peers] = [await agent.status(), await agent.peers()];
			return (
				status.mode === mode &&
				status.tunnelType === tunnelType &&
				status.pending === 0 &&
				peers.every((peer) => peer.path === expected.expectedPath(node, peer.node))
			);
		});
	}

	async configureAll(settings: Settings): Promise<void> {
		await Promise.all(NODES.map((node) => this.configure(node, settings)));
	}

	async pathsTo(node: string, peer: string): Promise<PeerStatus[]> {
		return (await this.cluster.lab.agent(node).peers()).filter((view) => view.node === peer);
	}

	async changes(node: string): Promise<PathEvent[]> {
		return ask<PathEvent[]>(this.cluster.lab.agent(node).socket, "GET", "/events");
	}
}

const configFile = (directory: string, node: string) => join(directory, "config.d", `${node}.yaml`);

t.test("live changes", async (t) => {
	let directory = "";
	const cluster = await startCluster(t, FIRST, (made) => {
		directory = made;
		mkdirSync(join(directory, "config.d"));
		for (const node of NODES) writeFileSync(configFile(directory, node), JSON.stringify(FIRST));
	});
	const nodes = new Nodes(cluster, directory);
	const { lab } = cluster;
	await lab.underlay.setRouterKnowsPods(true);
	await cluster.serve("pod2a", "pod3a");

	await t.test("every mode after every other, on all Nodes at once", (t) =>
		underStreams(t, cluster, async (goOn) => {
			for (const settings of MODES) {
				await nodes.configureAll(settings);
				await goOn();
			}
		}),
	);

	await t.test("rolled over the cluster, Node by Node", (t) =>
		underStreams(t, cluster, async (goOn) => {
			for (const settings of ROLLED)
				for (const node of NODES) {
					await nodes.configure(node, settings);
					await goOn();
				}
		}),
	);

	await t.test("a path that becomes narrower", async (t) => {
		const wide: Settings = { trafficEncapMode: "hybrid" };
		await nodes.configureAll(wide);
		const size = (family: Family) => ({ size: fullSize(1500, family), rate: 200 });
		const pair = (family: Family) => ["pod1a", "pod2a", family] as const;
		const bulk = await BulkStreams.start(cluster, FAMILIES.map(pair), 5_000_000);
		const withDf = [
			await Streams.start(cluster, [pair(4)], size(4)),
			await Streams.start(cluster, [pair(6)], size(6)),
		];
		const withoutDf = await Streams.start(cluster, [pair(4)], { ...size(4), fragmentable: true });
		const all = [...withDf, withoutDf];
		await bulk.goOn(1_000_000);

		const never = { neverDirectCIDRs: ["192.168.1.0/24", "fd00:192:168:1::/64"] };
		for (const node of ["node1", "node2"]) {
			writeFileSync(configFile(directory, node), JSON.stringify({ ...wide, hybrid: never }));
			await until(`${node} to tunnel to its neighbour`, async () =>
				(await nodes.pathsTo(node, node === "node1" ? "node2" : "node1")).every(
					({ path, family, mtu }) => path === "geneve" && mtu === (family === 4 ? 1450 : 1430),
				),
			);
		}
		for (const streams of all) await streams.echoed(200);
		await bulk.goOn(1_000_000);
		const [df4, df6, plain] = await Promise.all(all.map((streams) => streams.stop()));
		const tcp = await bulk.stop();
		t.comment(
			`TCP stood still for ${tcp.map(({ longestStallMs }) => Math.round(longestStallMs))} ms`,
		);
		// In each direction one packet learns the MTU; packets in flight may also be lost.
		for (const [loss] of [df4!, df6!])
			t.ok(loss!.lost + loss!.lostOnReturn <= 20, `${loss!.what} with DF: ${JSON.stringify(loss)}`);
		t.same(
			plain!.map(({ lost }) => lost),
			[0],
			"without DF, nothing is lost on the way there",
		);
		await nodes.configureAll(FIRST);
	});

	await t.test("agents stop and start again", async (t) => {
		await nodes.configureAll({ trafficEncapMode: "hybrid" });
		const before = (await nodes.changes("node1")).length;
		await underStreams(t, cluster, async (goOn) => {
			for (const signal of ["SIGKILL", "SIGTERM"] as const) {
				await lab.agent("node1").stop(signal);
				await goOn();
				await lab.agent("node1").start();
				await goOn();
				t.same(
					(await nodes.pathsTo("node1", "node2")).map(({ path, mtu }) => `${path} ${mtu}`),
					["direct 1500", "direct 1500"],
					`${signal}: direct as before, without a new proof`,
				);
			}
			await lab.agent("node2").stop("SIGKILL");
			await goOn();
			const views = await nodes.pathsTo("node1", "node2");
			t.same(
				views.map(({ path }) => path),
				["direct", "direct"],
				"a peer without agent answers",
			);
			await lab.agent("node2").start();
		});
		t.equal((await nodes.changes("node1")).length, before, "no path has changed");
		t.ok(
			(await nodes.pathsTo("node1", "node2")).every(({ changes }) => changes > 0),
			"how often it has changed is remembered",
		);
	});

	await t.test("a path that failed while the agent was down", async (t) => {
		const faults = new Faults(t, lab);
		await lab.agent("node1").stop();
		await faults.blackhole("node1", { peer: "node2", what: "pods" });
		await lab.agent("node1").start();
		await until("the tunnel in its place", async () =>
			(await nodes.pathsTo("node1", "node2")).every(({ path }) => path === "geneve"),
		);
	});

	await t.test("Nodes of every kind in one cluster", async (t) => {
		const kinds: Settings[] = [
			{ trafficEncapMode: "encap", tunnelType: "geneve" },
			{ trafficEncapMode: "hybrid", tunnelType: "vxlan" },
			{ trafficEncapMode: "noEncap" },
			{ trafficEncapMode: "hybrid", tunnelType: "geneve", tunnelPort: 7002 },
		];
		await Promise.all(NODES.map((node, i) => nodes.configure(node, kinds[i]!)));
		const pods = ["pod1b", "pod2b", "pod3b", "pod4b"];
		await cluster.serve(...pods);
		const traffic = { tcpBytes: 300_000, sizes: [1, 1400, 1472, 3000] };
		for (const from of pods)
			for (const to of pods) if (from !== to) await exchange(t, cluster, from, to, traffic);
	});
});

/** Runs an action while streams of both kinds flow: no loss, no duplicates. */
async function underStreams(
	t: Test,
	cluster: Cluster,
	act: (goOn: () => Promise<void>) => Promise<void>,
): Promise<void> {
	const streams = await Streams.start(cluster, PAIRS);
	const bulk = await BulkStreams.start(
		cluster,
		PAIRS.filter(([, , family]) => family === 4),
	);
	await act(async () => {
		await streams.goOn(150);
		await bulk.goOn(100_000);
	});
	const losses = await streams.stop();
	const tcp = await bulk.stop();
	t.comment(
		`TCP stood still for ${tcp.map(({ longestStallMs }) => Math.round(longestStallMs))} ms`,
	);
	t.same(lossy(losses), [], "nothing is lost, nothing comes twice");
}
