/** Health and metrics of agents in their network namespaces, against what the commands say. */
import { writeFileSync } from "node:fs";
import t from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster } from "../tools/cluster.js";
import { parseMetrics } from "../tools/prometheus.js";

const GET = `fetch(process.argv[1]).then(async (r) => process.stdout.write(r.status + "\\n" + await r.text()))`;

t.test("a scrape parses and agrees with peers and status", async (t) => {
	const { lab } = await startCluster(t, { trafficEncapMode: "hybrid" });
	const get = async (url: string) => {
		const { stdout } = await lab.namespace("node1").run([process.execPath, "-e", GET, url]);
		const end = stdout.indexOf("\n");
		return { code: Number(stdout.slice(0, end)), text: stdout.slice(end + 1) };
	};
	const agent = lab.agent("node1");
	t.same(await get("http://127.0.0.1:9479/livez"), { code: 200, text: "ok\n" });
	t.same(await get("http://127.0.0.1:9479/readyz"), { code: 200, text: "ok\n" });

	const before = await agent.peers();
	const { code, text } = await get("http://127.0.0.1:9480/metrics");
	const after = await agent.peers();
	t.equal(code, 200);
	const metrics = parseMetrics(text);
	t.equal(metrics.series("fairway_peer_path").length, before.length);
	for (const [i, peer] of before.entries()) {
		const labels = { peer: peer.node, family: String(peer.family) };
		t.equal(metrics.value("fairway_peer_path", { ...labels, path: peer.path }), 1, peer.node);
		t.equal(metrics.value("fairway_peer_mtu_bytes", labels), peer.mtu);
		for (const path of ["direct", "tunnel"] as const) {
			const value = metrics.value("fairway_peer_sent_bytes_total", { ...labels, path }) ?? -1;
			t.ok(value >= peer.bytes[path] && value <= (after[i]?.bytes[path] ?? 0), `${path} bytes`);
		}
	}
	const counted = metrics.series("fairway_peers").reduce((sum, { value }) => sum + value, 0);
	t.equal(counted, before.length);
	const status = await agent.status();
	t.equal(metrics.value("fairway_ready"), 1);
	t.equal(metrics.value("fairway_endpoints"), status.endpoints);
	t.equal(
		metrics.value("fairway_cni_duration_seconds_count", { command: "ADD", result: "ok" }),
		status.endpoints,
	);
	t.equal(metrics.value("fairway_problems"), 0);

	// Another agent's addresses are free again here: each has a namespace of its own.
	writeFileSync(
		lab.config,
		"trafficEncapMode: hybrid\nhttp: {health: '', metrics: '203.0.113.77:1'}\n",
	);
	const problem =
		"Cannot listen at 203.0.113.77:1 (http.metrics): this Node does not have the address";
	await until("the agent reports the address", async () => {
		return (await agent.status()).problems.includes(problem);
	});
	await t.rejects(get("http://127.0.0.1:9479/livez"));
	writeFileSync(lab.config, "trafficEncapMode: hybrid\nhttp: {metrics: ':9999'}\n");
	await until("the problem is gone", async () => (await agent.status()).problems.length === 0);
	t.equal((await get("http://[::1]:9999/metrics")).code, 200);
});
