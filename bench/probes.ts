/**
 * Cost of probing for a Node with a thousand peers in its subnet: CPU of its agent and bits on the wire,
 * idle and with traffic to fifty peers; and the time until all peers are proven.
 *
 *   bench/probes.ts [SECONDS] [ROUNDS]     default 60, 3
 *
 *   pod1 ── node1 ── (node1 │ net1
 *   50 × 100 packets/s       reflector: a thousand Nodes that exist only in manifests
 *
 * On a veth, a packet arrives in the thread that sends it, so the agent's CPU time includes the work of
 * the reflector and of this Node's core for its probes.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import type { Agent } from "../src/lab/agent.js";
import { Lab } from "../src/lab/lab.js";
import { command } from "../src/lab/repository.js";
import { until } from "../src/lab/until.js";
import { Path, Peer } from "../src/tables/generated.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { Reflector, type Seen } from "./tools/reflector.js";
import { publish } from "./tools/report.js";
import { shownSpread, spread } from "./tools/statistics.js";

const seconds = Number(process.argv[2] ?? 60);
const rounds = Number(process.argv[3] ?? 3);
const PEERS = 1000;
const ACTIVE = 50;
/** Packets a second to each active peer. */
const RATE = 100;
const STARTS = 3;
/** An idle path is probed once in two minutes. */
const IDLE_SECONDS = 2 * seconds;
/** Time for a start or a change of traffic to settle. */
const SETTLE_MS = 10_000;

interface Sample {
	/** CPU time of the agent's threads, as a share of one CPU. */
	cpu: number;
	questions: number;
	answers: number;
	/** Bits a second, with Ethernet headers. */
	sent: number;
	received: number;
	/** Pod packets. */
	pods: number;
}

/** Times in seconds. */
interface Start {
	ready: number;
	proven: number;
	questions: number;
	/** CPU time of the agent up to the last proof. */
	cpu: number;
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
	// The agent watches all parent directories: activity in a shared one would wake it.
	const directory = mkdtempSync("/var/tmp/fairway-bench-");
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
		// Permanent entries do not count against gc_thresh3, which the whole machine shares.
		input: crowd
			.map(
				({ address }) =>
					`neigh replace ${address} lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n`,
			)
			.join(""),
	});
	writeFileSync(join(directory, "crowd.json"), JSON.stringify(list(crowd.map(({ node }) => node))));

	const [pod] = lab.topology.pods;
	const starts: Start[] = [];
	while (starts.length < STARTS) starts.push(await start(lab, agent, reflector));
	const { pid } = await agent.status();
	const resident = residentOf(pid);
	// Cleaning up between the starts has removed the Pod's interface.
	if (pod !== undefined) await lab.attach(pod);
	await delay(SETTLE_MS);

	const idle = [await measure(pid, reflector, IDLE_SECONDS)];
	const station = await lab.station("pod1");
	const streams = await Promise.all(
		crowd.slice(0, ACTIVE).map(async ({ pods }) => {
			const host = pods.replace(/0\/24$/, "2");
			// Unanswered: nothing listens there.
			return station.order("udpStream", { host, port: 9, rate: RATE, size: 32 });
		}),
	);
	await delay(SETTLE_MS);
	const active: Sample[] = [];
	while (active.length < rounds) active.push(await measure(pid, reflector, seconds));
	await Promise.all(streams.map((stream) => station.order("udpStop", stream)));
	const { paths } = (await agent.status()).peers;
	const pods = Math.min(...active.map((sample) => sample.pods));
	if (paths.direct !== PEERS || pods < 0.95 * ACTIVE * RATE)
		throw new Error(
			`Cannot trust the result: expected ${PEERS} direct paths and ${ACTIVE * RATE} packets/s, got ${paths.direct} and ${pods}`,
		);

	const row = (name: string, samples: Sample[]): string[] => [
		name,
		shownSpread(spread(samples.map(({ cpu }) => 100 * cpu)), 2),
		...(["questions", "answers"] as const).map((what) =>
			shownSpread(spread(samples.map((sample) => sample[what]))),
		),
		...(["sent", "received"] as const).map((what) =>
			shownSpread(spread(samples.map((sample) => sample[what] / 1000))),
		),
		shownSpread(spread(samples.map(({ cpu, questions }) => (1e6 * cpu) / questions))),
	];
	const startRow = (name: string, what: keyof Start, digits = 1) => [
		name,
		shownSpread(spread(starts.map((one) => one[what])), digits),
	];
	publish({
		bench: "probes",
		method: `Hybrid mode, IPv4, ${PEERS} Nodes of the same subnet, all answered by a BPF program. ${STARTS} starts with nothing pinned; then ${IDLE_SECONDS} s without traffic, and ${rounds} times ${seconds} s with ${RATE} packets/s from a Pod to a Pod on each of ${ACTIVE}. CPU time of all threads of the agent, including the work of the reflector and of the Node's own core for each probe: on a veth it happens in the thread that sends.`,
		tables: [
			{
				title: "Probing",
				columns: [
					"",
					"CPU % of a core",
					"requests/s",
					"answers/s",
					"kbit/s sent",
					"kbit/s received",
					"CPU µs per request",
				],
				rows: [row("idle", idle), row(`traffic to ${ACTIVE} peers`, active)],
			},
			{
				title: `Start with ${PEERS} peers`,
				columns: ["", ""],
				rows: [
					startRow("ready, s", "ready"),
					startRow("all peers proven, s", "proven"),
					startRow("requests until then", "questions", 0),
					startRow("CPU time until then, s", "cpu"),
					["resident memory then, MB", resident.toFixed(0)],
				],
			},
		],
		data: { idle, active, starts, resident },
	});
});

/** A cold start of node1's agent up to the last proof. */
async function start(lab: Lab, agent: Agent, reflector: Reflector): Promise<Start> {
	await agent.stop();
	const directories = ["--pin-dir", agent.pinDirectory, "--run-dir", agent.runDirectory];
	await lab.run("node1", [command("fairway"), "cleanup", ...directories]);
	rmSync(agent.runDirectory, { recursive: true, force: true });
	const before = questionsOf(reflector.seen());
	const begun = performance.now();
	const since = () => (performance.now() - begun) / 1000;
	await agent.start();
	const ready = since();
	await until("all peers are proven", async () => provenIn(agent.pinDirectory) === PEERS, 120_000);
	const proven = since();
	const questions = questionsOf(reflector.seen()) - before;
	return { ready, proven, questions, cpu: cpuTime((await agent.status()).pid) / 1e9 };
}

async function measure(pid: number, reflector: Reflector, seconds: number): Promise<Sample> {
	const before = { at: performance.now(), cpu: cpuTime(pid), seen: reflector.seen() };
	await delay(seconds * 1000);
	const seen = reflector.seen();
	const cpu = cpuTime(pid) - before.cpu;
	const elapsed = (performance.now() - before.at) / 1000;
	const since = (what: (seen: Seen) => number) => (what(seen) - what(before.seen)) / elapsed;
	return {
		cpu: cpu / 1e9 / elapsed,
		questions: since(questionsOf),
		answers: since(({ answered }) => answered.packets),
		sent: 8 * since(({ direct, tunnel }) => direct.bytes + tunnel.bytes),
		received: 8 * since(({ answered }) => answered.bytes),
		pods: since(({ pod }) => pod.packets),
	};
}

/** The number of peers with a direct path, read from the kernel without disturbing the agent. */
function provenIn(pins: string): number {
	const peers = BpfMap.openPinned(`${pins}/maps/peers`);
	const { values } = peers.entries();
	peers.close();
	let proven = 0;
	for (let at = 0; at < values.length; at += Peer.size) if (values[at] === Path.DIRECT) proven++;
	return proven;
}

function questionsOf({ direct, tunnel }: Seen): number {
	return direct.packets + tunnel.packets;
}

/** CPU time of all threads of a process, ns. */
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

/** The manifest of a peer in the subnet of node1. */
function nodeOf(i: number): { address: string; pods: string; node: object } {
	const address = `192.168.${4 + (i >> 8)}.${i & 255}`;
	const pods = `10.${100 + (i >> 8)}.${i & 255}.0/24`;
	return { address, pods, node: node(`crowd${i}`, address, pods) };
}
