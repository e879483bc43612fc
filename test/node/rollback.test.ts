/**
 * Nodes go back to a former version of Fairway, whose tables differ, and forward again, with live pins and under
 * traffic: numbered streams of 1,000 datagrams a second over every kind of path. The drawing is in
 * agent_faults.test.ts.
 */
import t from "tap";
import type { Agent } from "../../src/lab/agent.js";
import { startCluster, TCP_PORT } from "../tools/cluster.js";
import { formerBuild } from "../tools/former_build.js";
import { lossy, Streams } from "../tools/streams.js";

/** The last one without network policy: it knows neither its maps nor what flows keep of it. */
const WITHOUT_POLICY = "9f0efdd22c89f6df4ef944e028ba8ead1c7e80eb";
const PAIRS = [
	["pod1a", "pod1b", 4],
	["pod1a", "pod2a", 4],
	["pod1a", "pod3a", 4],
	["pod1a", "outside", 4],
	["pod1a", "pod2a", 6],
	["pod1a", "pod3a", 6],
	["pod3a", "outside", 6],
] as const;
const MACHINE_IS_BUSY = "event loop was blocked";
const COMPLAINTS = new Set(["warn", "error", "fatal"]);
/** More than what probes and sweeps after a start take. */
const SETTLED_MS = 2000;

t.setTimeout(900_000);

t.test(
	"roll-back to the version without network policy, and upgrade, lose no packet",
	async (t) => {
		const former = await formerBuild(WITHOUT_POLICY);
		if (former === undefined) {
			t.comment(`left out: the history of this checkout has no commit ${WITHOUT_POLICY}`);
			return;
		}
		const cluster = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
		const { lab } = cluster;
		await cluster.serve("pod1b", "pod2a", "pod3a", "outside");
		const restart = async (agent: Agent, root?: string): Promise<void> => {
			await agent.stop("SIGTERM");
			await agent.start(root);
		};
		for (const [what, root] of [
			["roll-back", former],
			["upgrade", undefined],
		] as const) {
			const streams = await Streams.start(cluster, PAIRS);
			// One after another: a Node has another version than its peers, then all have the same.
			for (const agent of lab.agents.values()) {
				await restart(agent, root);
				await streams.goOn(SETTLED_MS);
			}
			t.same(lossy(await streams.stop()), [], `${what}: no datagram lost`);
			for (const [node, agent] of lab.agents) {
				t.same((await agent.status()).problems, [], `${what}: ${node} has no problems`);
				const complaints = agent
					.lines()
					.filter(({ level, msg }) => COMPLAINTS.has(String(level)) && msg !== MACHINE_IS_BUSY);
				t.same(complaints, [], `${what}: ${node} warns of nothing`);
			}
			const host = lab.address("pod3a", 4);
			const order = { host, port: TCP_PORT, bytes: 1e5, seed: 9 };
			const { whole } = await (await lab.station("pod1a")).order("tcpSend", order);
			t.equal(whole, true, `${what}: new connections`);
			t.same(await cluster.allDrops(), {}, `${what}: nothing is dropped`);
		}
	},
);
