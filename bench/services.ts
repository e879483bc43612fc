/**
 * Services: what a packet and a connection cost by a Service's address, against the same without a Service,
 * against a bare translation by constants, and against rules of kube-proxy's shape, with one Service and
 * with ten thousand.
 *
 *   bench/services.ts [ROUNDS] [FRAMES] [SECONDS] [SERVICES]     default 7, 60000, 0.5, 10000
 */
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { bareDnat, kernelForwarding, kubeProxyRules } from "./tools/networks.js";
import { Pktgen } from "./tools/pktgen.js";
import { publish, type Table } from "./tools/report.js";
import { CLUSTER_IP, SERVICE_PORT } from "./tools/service_plan.js";
import { type Dataplane, Site } from "./tools/site.js";
import { ratios, shownSpread, spread } from "./tools/statistics.js";
import { type Exchanged, Traffic } from "./tools/traffic.js";

const rounds = Number(process.argv[2] ?? 7);
const frames = Number(process.argv[3] ?? 60_000);
const seconds = Number(process.argv[4] ?? 0.5);
const many = Number(process.argv[5] ?? 10_000);

const TOGETHER = [1, 1] as const;
const APART = [0, 1] as const;
const REQUEST_BYTES = 64;

const kinds = {
	connect: (way: Traffic) => way.run("connect", seconds, [REQUEST_BYTES], TOGETHER),
	exchange: (way: Traffic) => way.run("exchange", seconds, [REQUEST_BYTES], TOGETHER),
	"1 stream": (way: Traffic) => way.run("stream", seconds, [1], APART),
	"8 streams": (way: Traffic) => way.run("stream", seconds, [8], APART),
};
type Kind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as Kind[];

/** A site, and how its client asks. */
interface Way {
	name: string;
	site: Site;
	/** Else by pod2's own address. */
	service: boolean;
}

await bench(async () => {
	const pktgen = await Pktgen.open();
	const packets: Way[] = [];
	const sockets: Way[] = [];
	const up = async (
		name: string,
		dataplane: Dataplane,
		into: readonly Way[][],
		asked: readonly boolean[],
	): Promise<void> => {
		const site = await Site.up(name, dataplane);
		for (const ways of into)
			for (const service of asked)
				ways.push({ name: asked.length > 1 && service ? `${name}, Service` : name, site, service });
	};
	const both = [packets, sockets];
	await up("kernel forwarding", { network: kernelForwarding }, both, [false]);
	await up("bare DNAT", { network: bareDnat(pktgen, { tunnel: false }) }, both, [true]);
	await up("bare DNAT, geneve", { network: bareDnat(pktgen, { tunnel: true }) }, [packets], [true]);
	for (const rules of ["iptables-nft", "iptables-legacy", "nft"] as const)
		await up(rules, { network: kubeProxyRules(rules, 1) }, both, [true]);
	for (const rules of ["iptables-legacy", "nft"] as const)
		await up(`${rules}, ${many}`, { network: kubeProxyRules(rules, many) }, [sockets], [true]);
	for (const [name, mode] of [
		["Fairway direct", { trafficEncapMode: "hybrid" }],
		["Fairway geneve", { trafficEncapMode: "encap" }],
	] as const) {
		await up(name, { fairway: mode }, [packets], [false]);
		await up(name, { fairway: { ...mode, xdp: "auto" } }, [sockets], [false]);
	}

	const comparison = new Comparison(pktgen, rounds, frames);
	for (const { name, site, service } of packets) {
		const to = service ? { destination: CLUSTER_IP, destinationPort: SERVICE_PORT.udp } : {};
		const stream = await site.fromPod(pktgen, to);
		const wire = await site.ontoWire(pktgen, stream);
		await site.sinkInPod(pktgen, "sink_tc");
		comparison.add(`out ${name}`, stream);
		comparison.add(`in ${name}`, wire);
	}
	await comparison.run();

	const results = new Map<string, Exchanged[]>();
	const traffics = new Map<string, Traffic>();
	for (const { name, site, service } of sockets) {
		const direct = new Traffic(
			site.namespace("pod1"),
			site.namespace("pod2"),
			site.lab.address("pod2", 4),
		);
		traffics.set(name, service ? direct.at(CLUSTER_IP, SERVICE_PORT.tcp) : direct);
	}
	for (let round = 0; round < rounds; round++) {
		const all = [...traffics];
		for (const kind of kindNames)
			for (const [name, traffic] of round % 2 === 0 ? all : all.toReversed()) {
				const key = `${kind} ${name}`;
				results.set(key, [...(results.get(key) ?? []), await kinds[kind](traffic)]);
			}
	}

	const values = (kind: Kind, name: string, of: (one: Exchanged) => number): number[] =>
		(results.get(`${kind} ${name}`) ?? []).map(of);
	const cell = (kind: Kind, name: string, of: (one: Exchanged) => number, digits: number) =>
		shownSpread(spread(values(kind, name, of)), digits);
	const versus = (kind: Kind, name: string, other: string, of: (one: Exchanged) => number) =>
		shownSpread(ratios(values(kind, name, of), values(kind, other, of)), 2);
	const gigabits = ({ received, elapsed }: Exchanged) => (received * 8) / elapsed;
	const cpuPerBit = ({ cpu, received }: Exchanged) => cpu / (received * 8);
	const cpuPerOne = ({ cpu, count }: Exchanged) => cpu / count / 1000;
	const peers = ["iptables-nft", "iptables-legacy", "nft", "bare DNAT"];
	const transactions = (kind: "connect" | "exchange", title: string): Table => ({
		title: `${title}, ${REQUEST_BYTES} bytes in each direction, both ends on one CPU`,
		columns: ["", "CPU µs each", ...peers.map((peer) => `÷ ${peer}`), "p50 µs", "p99 µs"],
		rows: sockets.map(({ name }) => [
			name,
			cell(kind, name, cpuPerOne, 1),
			...peers.map((peer) => versus(kind, name, peer, cpuPerOne)),
			cell(kind, name, ({ p50 }) => p50, 1),
			cell(kind, name, ({ p99 }) => p99, 1),
		]),
	});
	const streams = (kind: "1 stream" | "8 streams"): Table => ({
		title: `TCP, ${kind}, client and server on a CPU each`,
		columns: ["", "Gb/s", "CPUs per Gb/s", "÷ nft"],
		rows: sockets.map(({ name }) => [
			name,
			cell(kind, name, gigabits, 1),
			cell(kind, name, cpuPerBit, 3),
			versus(kind, name, "nft", cpuPerBit),
		]),
	});
	publish({
		bench: "services",
		method: `IPv4; ${rounds} rounds, UDP in frames of 64 bytes, ${frames} frames each, TCP ${seconds} s each, the ways alternating; median (least–greatest). CPU: client, server and ksoftirqd. The Service that is asked has one endpoint, pod2 on the other Node; with ${many} Services, the others have ten each.`,
		tables: [
			{
				title: "Pod to Pod by a Service, established, UDP: CPU ns per packet",
				columns: ["", "egress", "÷ nft", "÷ iptables-legacy", "ingress", "÷ nft", "delivered"],
				rows: packets.map(({ name }) => [
					name,
					comparison.cpu(`out ${name}`),
					comparison.ratio(`out ${name}`, "out nft"),
					comparison.ratio(`out ${name}`, "out iptables-legacy"),
					comparison.cpu(`in ${name}`),
					comparison.ratio(`in ${name}`, "in nft"),
					`${comparison.delivered(`out ${name}`)} ${comparison.delivered(`in ${name}`)}`,
				]),
			},
			transactions("connect", "TCP connect, request, response, close"),
			transactions("exchange", "TCP request and response"),
			streams("1 stream"),
			streams("8 streams"),
		],
		data: { ...comparison.data(), ...Object.fromEntries(results) },
	});
});
