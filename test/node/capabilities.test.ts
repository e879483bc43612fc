/** The agent with no more capabilities than README.md says that it needs: it starts, attaches Pods and probes. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Namespace, run } from "../../src/lab/namespace.js";
import { callCni } from "../../src/lab/pod.js";
import { command } from "../../src/lab/repository.js";
import { startCluster, TCP_PORT } from "../tools/cluster.js";

const NEEDED = ["bpf", "net_admin", "net_raw", "sys_admin"];
const COMPLAINTS = new Set(["warn", "error", "fatal"]);

/** A directory whose `fairway` has these capabilities alone. */
function limited(t: Test, capabilities: readonly string[]): string {
	const directory = mkdtempSync(join(tmpdir(), "fairway-capabilities-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const bounding = ["-all", ...capabilities.map((name) => `+${name}`)].join();
	const program = command("fairway", directory);
	mkdirSync(join(directory, "bin"));
	writeFileSync(
		program,
		`#!/bin/sh\nexec setpriv --bounding-set ${bounding} --inh-caps -all ${command("fairway")} "$@"\n`,
	);
	chmodSync(program, 0o755);
	return directory;
}

t.test("the agent needs few capabilities", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
	const { lab } = cluster;
	await cluster.serve("pod3a");
	const agent = lab.agent("node1");
	const target = new Namespace(`fwl-capabilities-${process.pid}`);
	await run(["ip", "netns", "add", target.name]);
	t.teardown(() => run(["ip", "netns", "del", target.name]));
	const before = (await agent.peers()).map(({ path }) => path);
	await agent.stop("SIGTERM");
	await agent.start(limited(t, NEEDED));
	const [pod, node, socket] = [lab.topology.pods[0]!, lab.namespace("node1"), agent.socket];
	for (const verb of ["ADD", "DEL"] as const) {
		const { status, stdout } = await callCni({ verb, pod, node, target, socket });
		t.equal(status, 0, `${verb} ${stdout}`);
	}
	const order = { host: lab.address("pod3a", 4), port: TCP_PORT, bytes: 1e5, seed: 1 };
	t.equal((await (await lab.station("pod1a")).order("tcpSend", order)).whole, true);
	t.same(
		(await agent.peers()).map(({ path }) => path),
		before,
		"paths",
	);
	t.same((await agent.status()).problems, []);
	const complaints = agent.lines().filter(({ level }) => COMPLAINTS.has(String(level)));
	t.same(complaints, []);

	await agent.stop("SIGTERM");
	const others = NEEDED.filter((name) => name !== "sys_admin");
	await t.rejects(
		agent.start(limited(t, others)),
		/Operation not permitted/,
		"and says what fails",
	);
	await agent.start();
});
