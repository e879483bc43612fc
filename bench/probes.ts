/**
 * What probing costs a Node with a thousand peers in its own subnet: CPU of its agent and bits on the
 * wire, without traffic and with traffic to fifty of them; how soon all of them are proven.
 *
 *   bench/probes.ts [SECONDS] [ROUNDS]     default 30, 3
 *
 *   pod1 ── node1 ── (node1 │ net1
 *   50 × 100 packets/s       reflector: a thousand Nodes that only manifests know
 *
 * A veth has a packet arrive before it has been sent: what the reflector and this Node's core do with a
 * probe happens in the agent's own thread, too, and is in its CPU time.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import { Lab } from "../src/lab/lab.js";
import { command } from "../src/lab/repository.js";
import { until } from "../src/lab/until.js";
import { Path, Peer } from "../src/tables/generated.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { Reflector, type Seen } from "./tools/reflector.js";
import { publish } from "./tools/report.js";
import { shownSpread, spread } from "./tools/statistics.js";

const seconds = Number(process.argv[2] ?? 30);
const rounds = Number(process.argv[3] ?? 3);
const PEERS = 1000;
const ACTIVE = 50;
/** Packets a second to each of them. */
const RATE = 100;

interface Sample {
	/** Of one CPU: the agent's threads. */
	cpu: number;
	questions: number;
	answers: number;
	/** Bits a second, with Ethernet headers. */
	sent: number;
	received: number;
}

const self = [
	{
		kind: "ConfigMap",
		apiVersion: "v1",
		metadata: { name: "fairway-lab", namespace: "kube-system" },
		data: { subnetPrefixLength4: "20" },
	},
	node("node1", "192.168.1.1", "10.244.1.0/24"),
	{
		kind: "Pod",
		apiVersion: "v1",
		metadata: { name: "pod1", namespace: "default" },
		spec: { nodeName: "node1", containers: [{ name: "main", image: "none" }] },
	},
];

await bench(async () => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-bench-"));
	atEnd(() => rmSync(directory, { recursive: true, force: true }));
	writeFileSync(join(directory, "lab.json"), JSON.stringify(list(self)));
	writeFileSync(join(directory, "config.yaml"), JSON.stringify({ trafficEncapMode: "hybrid" }));
	const lab = await Lab.prepare({ name: `fwB-${process.pid}-1`, manifests: directory });
	atEnd(() => lab.down());
	await lab.start();
	const agent = lab.agent("node1");
	const reflector = await Reflector.attach(lab, "node1", "10.100.0.0/14");
	const crowd = Array.from({ length: PEERS }, (_, i) => nodeOf(i));
	await lab.namespace("node1").run(["ip", "-batch", "-"], {
		// Permanent ones, that do not count against gc_thresh3, which all of the machine shares.
		input: crowd
			.map(
				({ address }) =>
					`neigh replace ${address} lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n`,
			)
			.join(""),
	});
	writeFileSync(join(directory, "crowd.json"), JSON.stringify(list(crowd.map(({ node }) => node))));

	const [pod] = lab.topology.pods;
	const starts: { ready: number; proven: number; questions: number; cpu: number }[] = [];
	for (let round = 0; round < rounds; round++) {
		await agent.stop();
		await lab.run("node1", [command("fairway"), "cleanup"].concat(
			...["--pin-dir", agent.pinDirectory, "--run-dir", agent.runDirectory],
		));
		rmSync(agent.runDirectory, { recursive: true, force: true });
		const before = reflector.seen();
		const begun = performance.now();
		await agent.start();
		const ready = performance.now() - begun;
		await until("all peers are proven", async () => provenIn(agent.pinDirectory) === PEERS, 120_000);
		starts.push({
			ready,
			proven: performance.now() - begun,
			questions: questionsOf(reflector.seen()) - questionsOf(before),
			cpu: cpuTime((await agent.status()).pid) / 1e6,
		});
		process.stderr.write(`${JSON.stringify(starts.at(-1))}\n`);
	}
	const { pid } = await agent.status();
	if (pod !== undefined) await lab.attach(pod);
	const resident = residentOf(pid);

	const measure = async (): Promise<Sample> => {
		const before = { at: performance.now(), cpu: cpuTime(pid), seen: reflector.seen() };
		await delay(seconds * 1000);
		const seen = reflector.seen(); if (process.env.PROF_DELAYED) process.kill(pid, "SIGUSR2");
		const elapsed = (performance.now() - before.at) / 1000;
		const since = (what: (seen: Seen) => number) => (what(seen) - what(before.seen)) / elapsed;
		const sample = {
			cpu: (cpuTime(pid) - before.cpu) / 1e9 / elapsed,
			questions: since(questionsOf),
			answers: since(({ answered }) => answered.packets),
			sent: 8 * since(({ direct, tunnel }) => direct.bytes + tunnel.bytes),
			received: 8 * since(({ answered }) => answered.bytes),
			pods: since(({ pod }) => pod.packets),
			unanswered: since(({ unanswered }) => unanswered.packets),
		};
		process.stderr.write(`${JSON.stringify(sample)}\n`);
		return sample;
	};
	const station = await lab.station("pod1");
	const idle: Sample[] = [];
	const active: Sample[] = [];
	for (let round = 0; round < rounds; round++) {
		// What was asked in the first proofs, or for traffic that has ended, is over.
		await delay(8000); if (process.env.PROF_DELAYED) process.kill(pid, "SIGUSR2");
		idle.push(await measure());
		const streams: number[] = [];
		for (const { pods } of crowd.slice(0, ACTIVE)) {
			const host = pods.replace(/0\/24$/, "2");
			const order = { host, port: 9, rate: RATE, size: 32 };
			streams.push((await station.order("udpStream", order)).stream);
		}
		await delay(8000); if (process.env.PROF_DELAYED) process.kill(pid, "SIGUSR2");
		active.push(await measure());
		await Promise.all(streams.map((stream) => station.order("udpStop", { stream })));
	}
	const after = await agent.status();
	process.stderr.write(`${JSON.stringify({ resident, after })}\n`);
});

/** Peers that packets take the direct path to: looked up in the kernel, so that no agent is asked. */
function provenIn(pins: string): number {
	const peers = BpfMap.openPinned(`${pins}/maps/peers`);
	const { values } = peers.entries();
	peers.close();
	let proven = 0;
	for (let at = 0; at < values.length; at += Peer.size)
		if (values[at] === Path.DIRECT) proven++;
	return proven;
}

function questionsOf({ direct, tunnel }: Seen): number {
	return direct.packets + tunnel.packets;
}

/** Nanoseconds of all its threads. */
function cpuTime(pid: number): number {
	return readdirSync(`/proc/${pid}/task`)
		.map((task) => readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ", 1)[0])
		.reduce((sum, time) => sum + Number(time), 0);
}

/** MB */
function residentOf(pid: number): number {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) / 1024;
}

function list(items: object[]): object {
	return { kind: "List", apiVersion: "v1", items };
}

function node(name: string, address: string, pods: string): object {
	return {
		kind: "Node",
		apiVersion: "v1",
		metadata: { name },
		spec: { podCIDR: pods, podCIDRs: [pods] },
		status: { addresses: [{ type: "InternalIP", address }] },
	};
}

/** In the subnet of node1. */
function nodeOf(i: number): { address: string; pods: string; node: object } {
	const address = `192.168.${4 + (i >> 8)}.${i & 255}`;
	const pods = `10.${100 + (i >> 8)}.${i & 255}.0/24`;
	return { address, pods, node: node(`crowd${i}`, address, pods) };
}
