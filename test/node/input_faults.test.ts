/**
 * Faults of the input: manifests that become invalid, Nodes that are added and removed, a full flow
 * table.
 *
 *   pod1a pod1b   pod2a               pod3a           pod4a
 *      node1        node2                node3           node4
 *        └─── net1 ───┘                    └──── net2 ─────┘
 *                └──────────── router ───────────┘
 *                                 │
 *                              outside
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { answerOf } from "../tools/exchange.js";
import { lossy, Streams } from "../tools/streams.js";

t.test("input faults", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	await cluster.serve("pod2a", "pod3a", "outside");
	const nodes = join(lab.manifests, "nodes.yaml");
	const good = readFileSync(nodes, "utf8");
	const agent = lab.agent("node1");
	const problems = async (): Promise<string> => (await agent.status()).problems.join("\n");
	const peers = async (): Promise<string[]> => [
		...new Set((await agent.peers()).map(({ node }) => node)),
	];

	t.test("invalid manifests are reported, and their last valid content stays", async (t) => {
		const streams = await Streams.start(cluster, [
			["pod1a", "pod2a", 4],
			["pod1a", "pod3a", 6],
		]);
		for (const [what, text] of [
			["no YAML", "kind: Node\n  metadata: ]["],
			["empty in the middle of being written", ""],
			["a Node without a name", "apiVersion: v1\nkind: Node\nmetadata: {}\n"],
		] as const) {
			writeFileSync(nodes, text);
			if (text !== "") {
				await until(`the problem is reported: ${what}`, async () =>
					(await problems()).includes("nodes.yaml"),
				);
				t.pass(what);
			}
			writeFileSync(nodes, good);
			await until("all is well again", async () => (await problems()) === "");
		}
		await streams.goOn(300);
		t.same(lossy(await streams.stop()), [], "no datagram lost");
		t.ok(agent.running);
	});

	t.test("a Node is removed and added again without effect on the others", async (t) => {
		const streams = await Streams.start(cluster, [
			["pod1a", "pod2a", 4],
			["pod1a", "pod3a", 4],
		]);
		const documents = good.split(/^---$/m);
		const without = documents.filter((text) => !/name: node4/.test(text)).join("---");
		writeFileSync(`${nodes}.new`, without);
		renameSync(`${nodes}.new`, nodes);
		await until("node4 is gone", async () => !(await peers()).includes("node4"));
		t.match(await cluster.ping("pod1a", "pod4a", 4), " 0 received", "and no longer reached");
		writeFileSync(nodes, good);
		await until("node4 is back", async () => (await peers()).includes("node4"));
		await until("pod4a answers", async () =>
			(await cluster.ping("pod1a", "pod4a", 4)).includes(" 3 received"),
		);
		await streams.goOn(300);
		t.same(lossy(await streams.stop()), [], "no datagram lost");
	});

	t.test("a Node changes its address without effect on the others", async (t) => {
		const streams = await Streams.start(cluster, [["pod1a", "pod3a", 4]]);
		const old = lab.address("node4", 4);
		// Otherwise the new address would be removed with the old one, as its secondary.
		await lab.run("node4", ["sysctl", "-q", "-w", "net.ipv4.conf.eth0.promote_secondaries=1"]);
		const move = async (address: string, from: string): Promise<void> => {
			await lab.run("node4", ["ip", "address", "add", `${address}/24`, "dev", "eth0"]);
			writeFileSync(nodes, good.replace(`address: ${old}\n`, `address: ${address}\n`));
			await until("node4 is known by it", async () =>
				(await agent.peers()).some(({ transportAddress }) => transportAddress === address),
			);
			await lab.run("node4", ["ip", "address", "del", `${from}/24`, "dev", "eth0"]);
			await until("pod4a answers", async () =>
				(await cluster.ping("pod1a", "pod4a", 4)).includes(" 3 received"),
			);
			await until("and reaches the outside", async () =>
				(await cluster.ping("pod4a", "outside", 4)).includes(" 3 received"),
			);
		};
		await move("192.168.2.9", "192.168.2.2");
		await move("192.168.2.2", "192.168.2.9");
		await streams.goOn(300);
		t.same(lossy(await streams.stop()), [], "no datagram lost");
	});

	t.test("a Node with another's pod CIDR is refused; the first one stays", async (t) => {
		cluster.write("intruder.yaml", {
			apiVersion: "v1",
			kind: "Node",
			metadata: { name: "intruder" },
			spec: { podCIDRs: ["10.244.3.0/24"] },
			status: { addresses: [{ type: "InternalIP", address: "192.168.2.66" }] },
		});
		await until("it is reported", async () => /intruder/.test(await problems()));
		t.notOk((await peers()).includes("intruder"));
		t.match(await cluster.ping("pod1a", "pod3a", 4), " 3 received");
		cluster.write("intruder.yaml");
		await until("the report goes with it", async () => (await problems()) === "");
	});

	t.test("a bad configuration is refused and the old one stays", async (t) => {
		writeFileSync(lab.config, "trafficEncapMode: sideways\n");
		await until("it is reported", async () => /config\.yaml:1:/.test(await problems()));
		t.equal((await agent.status()).mode, "hybrid");
		await cluster.configure(cluster.settings);
		await until("the report goes with it", async () => (await problems()) === "");
	});

	t.test("a full flow table: new SNAT is refused and counted, Pod traffic continues", async (t) => {
		const max = 64;
		await cluster.configure({ ...cluster.settings, flows: { max } });
		await until("the table is small", async () => (await agent.status()).flows.max === max);
		const pod = await lab.station("pod1a");
		const host = lab.address("outside", 4);
		const refusals = async () => (await cluster.drops("node1")).flow_table_full ?? 0;
		let answered = 0;
		for (let localPort = 20_000; localPort < 20_000 + 2 * max; localPort++)
			if (await answerOf(pod, { host, port: UDP_PORT, localPort }, refusals)) answered++;
		t.ok(answered <= max, `${answered} flows were made`);
		t.equal(await refusals(), 2 * max - answered, "each refused packet is counted");
		// Packets without translation continue without a flow.
		for (const to of ["pod2a", "pod3a"]) {
			const order = { host: lab.address(to, 4), port: TCP_PORT, bytes: 1e6, seed: 5 };
			t.match(await pod.order("tcpSend", order), { whole: true }, `TCP to ${to}`);
		}
		t.ok((await agent.status()).events.untracked, "and that is counted, too");
		await cluster.configure({ ...cluster.settings, flows: {} });
		await until("SNAT works again", async () => {
			const order = { host, port: UDP_PORT, localPort: 30_000, timeoutMs: 300 };
			return (await pod.order("udpWho", order)).port > 0;
		});
	});
	t.end();
});
