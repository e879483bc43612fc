/**
 * Traffic survives the agent's death, and a change of the configuration loses no packet.
 *
 *   pod1a pod1b   pod2a               pod3a
 *      node1        node2                node3
 *        └─── net1 ───┘                    └ net2
 *                └──────────── router ───────┘
 *                                 │
 *                              outside
 *
 * Throughout: numbered streams of 1,000 datagrams a second over every kind of path, and a TCP transfer whose
 * content is verified at its end.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { run } from "../../src/lab/namespace.js";
import { root } from "../../src/lab/repository.js";
import { type Cluster, type Settings, startCluster, TCP_PORT } from "../tools/cluster.js";
import { lossy, Streams } from "../tools/streams.js";

const PAIRS = [
	["pod1a", "pod1b", 4],
	["pod1a", "pod2a", 4],
	["pod1a", "pod3a", 4],
	["pod1a", "outside", 4],
	["pod1a", "pod2a", 6],
	["pod1a", "pod3a", 6],
	["pod3a", "outside", 6],
] as const;

/** Runs an action under traffic, of which nothing may be lost. */
async function underTraffic(
	t: Test,
	cluster: Cluster,
	act: (streams: Streams) => Promise<void>,
): Promise<void> {
	const streams = await Streams.start(cluster, PAIRS);
	const client = await cluster.lab.station("pod1b");
	let done = false;
	const transfers = (["pod2a", "pod3a", "outside"] as const).map(async (to) => {
		const host = cluster.lab.address(to, 4);
		const order = { host, port: TCP_PORT, rate: 4e6, timeoutMs: 60_000 };
		const wholes: boolean[] = [];
		// One after another as long as the action runs, each during several of its steps.
		for (let seed = 1; !done; seed++)
			wholes.push((await client.order("tcpSend", { ...order, bytes: 8e6, seed })).whole);
		return wholes.every(Boolean);
	});
	const outcome = act(streams).finally(() => {
		done = true;
	});
	await outcome;
	t.same(lossy(await streams.stop()), [], "no datagram lost");
	t.same(await Promise.all(transfers), [true, true, true], "TCP: all bytes, in order");
}

t.test("agent faults", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
	const { lab } = cluster;
	await cluster.serve("pod1b", "pod2a", "pod3a", "outside");
	const agent = lab.agent("node1");

	t.test("kill -9 and restart", async (t) => {
		const before = { endpoints: await agent.endpoints(), peers: await agent.peers() };
		await underTraffic(t, cluster, async (streams) => {
			await agent.stop("SIGKILL");
			await streams.goOn(500);
			const host = lab.address("pod3a", 4);
			const late = await (await lab.station("pod1a")).order("tcpSend", {
				...{ host, port: TCP_PORT, bytes: 1e5, seed: 9 },
			});
			t.equal(late.whole, true, "a connection that begins without an agent");
			await agent.start();
			await streams.goOn(500);
		});
		t.same(await agent.endpoints(), before.endpoints, "it knows its Pods");
		for (const [i, peer] of (await agent.peers()).entries()) {
			const known = before.peers[i];
			t.match(peer, { node: known?.node, path: known?.path });
			t.ok(peer.packets.direct >= (known?.packets.direct ?? 0), "counters go on");
		}
	});

	t.test("SIGTERM and restart of two Nodes", async (t) => {
		await underTraffic(t, cluster, async (streams) => {
			const pair = [agent, lab.agent("node3")];
			await Promise.all(pair.map((one) => one.stop("SIGTERM")));
			await streams.goOn(500);
			await Promise.all(pair.map((one) => one.start()));
			await streams.goOn(500);
		});
	});

	t.test("upgrade to other programs and back", async (t) => {
		const other = await otherBuild();
		t.teardown(() => rmSync(other, { recursive: true, force: true }));
		const tags = async (): Promise<string> => {
			const pins = `${agent.pinDirectory}`;
			const script = `for p in $(find ${pins} -path '*links*' -type f); do bpftool -j link show pinned $p; done`;
			const { stdout } = await run(["sh", "-c", script]);
			return [...stdout.matchAll(/"prog_id":(\d+)/g)]
				.map((match) => match[1])
				.sort()
				.join(" ");
		};
		await underTraffic(t, cluster, async (streams) => {
			const first = await tags();
			await agent.stop("SIGTERM");
			await agent.start(other);
			await streams.goOn(500);
			const second = await tags();
			t.not(second, first, `links run other programs: ${first} → ${second}`);
			await agent.stop("SIGKILL");
			await agent.start();
			await streams.goOn(500);
		});
	});

	t.test("every key of the configuration that is applied live", async (t) => {
		await lab.underlay.setRouterKnowsPods(true);
		await underTraffic(t, cluster, async (streams) => {
			for (const settings of [
				{ trafficEncapMode: "encap", tunnelType: "geneve" },
				{ trafficEncapMode: "encap", tunnelType: "vxlan" },
				{ trafficEncapMode: "noEncap", tunnelType: "vxlan" },
				{ trafficEncapMode: "hybrid", tunnelType: "vxlan" },
				{ trafficEncapMode: "hybrid", tunnelType: "vxlan", tunnelPort: 7777 },
				{ trafficEncapMode: "hybrid", tunnelType: "geneve", tunnelPort: 7778 },
				{ trafficEncapMode: "hybrid", snat: { portRange: "50000-50999" } },
				{ trafficEncapMode: "hybrid", snat: { excludeCIDRs: ["203.0.113.0/24"] } },
				// A flow keeps its translation.
				{ trafficEncapMode: "hybrid", noSNAT: true },
				{ trafficEncapMode: "hybrid", flows: { max: 65_536 } },
				{ trafficEncapMode: "hybrid", log: { level: "debug" } },
				{ trafficEncapMode: "hybrid", tunnelType: "geneve" },
			] satisfies Settings[]) {
				await cluster.configure(settings);
				await streams.goOn(300);
			}
		});
		const { packet_too_big, ...rest } = await cluster.allDrops();
		t.same(rest, {}, "nothing is counted as dropped but what TCP was told to cut");
	});
	t.end();
});

/** Another build of this checkout, whose BPF sources differ by a constant. */
async function otherBuild(): Promise<string> {
	const directory = mkdtempSync(join(tmpdir(), "fairway-upgrade-"));
	for (const part of ["bin", "bpf", "build", "dist", "native", "package.json"])
		cpSync(join(root, part), join(directory, part), { recursive: true });
	symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
	const header = join(directory, "bpf/lib/tables.h");
	const text = readFileSync(header, "utf8");
	const changed = text.replace("NEXT_HOP_TRUST_MS = 100", "NEXT_HOP_TRUST_MS = 90");
	if (changed === text)
		throw new Error(`Cannot make another build: expected NEXT_HOP_TRUST_MS = 100 in ${header}`);
	writeFileSync(header, changed);
	await run(["make", "-s", "-C", join(directory, "bpf")], { timeoutMs: 120_000 });
	return directory;
}
