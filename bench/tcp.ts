/**
 * Socket performance from Pod to Pod over a network that behaves like a wire: TCP throughput with one
 * and eight connections, request and response, the same with a connection for each request, and UDP at
 * a fixed rate; with the CPU time of both ends and everything between them. Over IPv6 and within a
 * Node: one connection, and request and response.
 *
 *   bench/tcp.ts [ROUNDS] [SECONDS]     default 7, 0.7 (for each stream; the others take half of that)
 */
import type { Family } from "../src/lab/subnet.js";
import { bench } from "./tools/cleanup.js";
import {
	bareRedirects,
	collectMetadata,
	kernelForwarding,
	kernelVxlan,
	openWays,
} from "./tools/networks.js";
import { Pktgen, setXdp } from "./tools/pktgen.js";
import { PlainPair } from "./tools/plain_pair.js";
import { publish, type Table } from "./tools/report.js";
import { type Settings, Site } from "./tools/site.js";
import { ratios, shownSpread, spread } from "./tools/statistics.js";
import { type Exchanged, Traffic } from "./tools/traffic.js";

const rounds = Number(process.argv[2] ?? 7);
const seconds = Number(process.argv[3] ?? 0.7);

/** Both ends on one CPU, so that the duration of a transaction is the sum of its costs. */
const TOGETHER = [1, 1] as const;
const APART = [0, 1] as const;
const REQUEST_BYTES = 64;
const DATAGRAMS_PER_SECOND = 50_000;

const kinds = {
	"1 stream": (way: Traffic) => way.run("stream", seconds, [1], APART),
	"8 streams": (way: Traffic) => way.run("stream", seconds, [8], APART),
	exchange: (way: Traffic) => way.run("exchange", seconds / 2, [REQUEST_BYTES], TOGETHER),
	connect: (way: Traffic) => way.run("connect", seconds / 2, [REQUEST_BYTES], TOGETHER),
	datagrams: (way: Traffic) =>
		way.run("datagrams", seconds / 2, [REQUEST_BYTES, DATAGRAMS_PER_SECOND], APART),
};
type Kind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as Kind[];

interface Way {
	traffic: Traffic;
	/** Only one connection, and request and response. */
	short?: boolean;
}
const SHORT: readonly Kind[] = ["1 stream", "exchange"];
const BOTH = { families: [4, 6] satisfies Family[], neighbour: true };

await bench(async () => {
	const pktgen = await Pktgen.open();
	/** With and without XDP, for which a veth copies each packet into a page; a NIC does not. */
	const fairway = (type: "direct" | "geneve" | "vxlan", xdp: "auto" | "native") => {
		const mode: Settings =
			type === "direct"
				? { trafficEncapMode: "hybrid" }
				: { trafficEncapMode: "encap", tunnelType: type };
		const name = `Fairway ${type}${xdp === "native" ? ", XDP" : ""}`;
		return Site.up(name, { fairway: { ...mode, xdp } }, xdp === "auto" ? BOTH : {});
	};
	const sites = [
		await Site.up("bare redirects", { network: bareRedirects(pktgen) }),
		await Site.up("kernel forwarding", { network: kernelForwarding }, BOTH),
		await Site.up("kernel vxlan", { network: kernelVxlan(4) }),
		await Site.up("tunnel key", { network: collectMetadata(pktgen) }),
		await fairway("direct", "auto"),
		await fairway("geneve", "auto"),
		await fairway("vxlan", "auto"),
		await fairway("direct", "native"),
		await fairway("geneve", "native"),
		await fairway("vxlan", "native"),
	];
	const passing = await Site.up("kernel forwarding, XDP that passes", {
		network: kernelForwarding,
	});
	for (const node of ["node1", "node2"])
		await setXdp(passing.namespace(node), "eth0", await openWays(pktgen, "pass_all", {}));
	sites.push(passing);
	const plain = await PlainPair.up();
	await plain.makeWire();
	const ways = new Map<string, Way>([["plain veth pair", { traffic: plain.traffic() }]]);
	const between = (site: Site, to: string, family: Family): Traffic =>
		new Traffic(site.namespace("pod1"), site.namespace(to), site.lab.address(to, family));
	for (const site of sites) ways.set(site.name, { traffic: between(site, "pod2", 4) });
	const overIpv6 = sites.filter(({ name }) =>
		/^(kernel forwarding|Fairway (direct|geneve|vxlan))$/.test(name),
	);
	for (const site of overIpv6) {
		const traffic = ways.get(site.name)!.traffic.at(site.lab.address("pod2", 6));
		ways.set(`${site.name}, IPv6`, { traffic, short: true });
	}
	const vxlan = await Site.up("kernel vxlan, IPv6", { network: kernelVxlan(6) }, { families: [6] });
	ways.set(vxlan.name, { traffic: between(vxlan, "pod2", 6), short: true });
	const locally = sites.filter(({ name }) => /^(kernel forwarding|Fairway direct)$/.test(name));
	for (const site of locally) {
		const name = `${site.name.replace(" direct", "")}, same Node`;
		const traffic = between(site, "neighbour", 4);
		ways.set(`${name}, IPv4`, { traffic, short: true });
		const other = traffic.at(site.lab.address("neighbour", 6));
		ways.set(`${name}, IPv6`, { traffic: other, short: true });
	}
	const results = new Map<string, Exchanged[]>();
	for (let round = 0; round < rounds; round++) {
		const all = [...ways];
		for (const kind of kindNames)
			for (const [name, { traffic, short }] of round % 2 === 0 ? all : all.toReversed()) {
				if (short && !SHORT.includes(kind)) continue;
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
	const names = [...ways].filter(([, { short }]) => !short).map(([name]) => name);
	const both = (kind: Kind, name: string, of: (one: Exchanged) => number) =>
		["kernel vxlan", "kernel forwarding"].map((other) => versus(kind, name, other, of));
	const streams = (kind: "1 stream" | "8 streams"): Table => ({
		title: `TCP, ${kind}, client and server on a CPU each`,
		columns: ["", "Gb/s", "÷ vxlan", "÷ forwarding", "CPUs per Gb/s", "÷ vxlan", "÷ forwarding"],
		rows: names.map((name) => [
			name,
			cell(kind, name, gigabits, 1),
			...both(kind, name, gigabits),
			cell(kind, name, cpuPerBit, 3),
			...both(kind, name, cpuPerBit),
		]),
	});
	const transactions = (kind: "exchange" | "connect", title: string): Table => ({
		title: `${title}, ${REQUEST_BYTES} bytes in each direction, both ends on one CPU`,
		columns: ["", "CPU µs each", "÷ vxlan", "÷ forwarding", "a second", "p50 µs", "p99 µs"],
		rows: names.map((name) => [
			name,
			cell(kind, name, cpuPerOne, 1),
			...both(kind, name, cpuPerOne),
			cell(kind, name, ({ count, elapsed }) => (count * 1e9) / elapsed, 0),
			cell(kind, name, ({ p50 }) => p50, 1),
			cell(kind, name, ({ p99 }) => p99, 1),
		]),
	});
	const elsewhere = (title: string, ending: string, others: string[]): Table => ({
		title: `TCP, 1 stream, and request and response: ${title}`,
		columns: ["", "Gb/s", "CPUs per Gb/s", "RR: CPU µs each", "RR: p50 µs", "RR: p99 µs"].flatMap(
			(column, i) => (i === 2 || i === 3 ? [column, ...others.map((o) => `÷ ${o}`)] : [column]),
		),
		rows: [...ways.keys()]
			.filter((name) => name.endsWith(ending) && !name.slice(0, -ending.length).includes(","))
			.map((name) => [
				name.slice(0, -ending.length),
				cell("1 stream", name, gigabits, 1),
				cell("1 stream", name, cpuPerBit, 3),
				...others.map((o) => versus("1 stream", name, `kernel ${o}${ending}`, cpuPerBit)),
				cell("exchange", name, cpuPerOne, 1),
				...others.map((o) => versus("exchange", name, `kernel ${o}${ending}`, cpuPerOne)),
				cell("exchange", name, ({ p50 }) => p50, 1),
				cell("exchange", name, ({ p99 }) => p99, 1),
			]),
	});
	const loss: Table = {
		title: `UDP, ${DATAGRAMS_PER_SECOND} datagrams of ${REQUEST_BYTES} bytes a second`,
		columns: ["", "sent a second", "lost ‰", "CPU µs each", "÷ vxlan", "÷ forwarding"],
		rows: names.map((name) => [
			name,
			cell("datagrams", name, ({ count, elapsed }) => (count * 1e9) / elapsed, 0),
			cell("datagrams", name, ({ count, received }) => (1000 * (count - received)) / count, 2),
			cell("datagrams", name, cpuPerOne, 2),
			...both("datagrams", name, cpuPerOne),
		]),
	};
	publish({
		bench: "tcp",
		method: `IPv4 unless said otherwise, Node MTU 1500; ${rounds} rounds, streams ${seconds} s, others ${seconds / 2} s each, the ways alternating; median (least–greatest). CPU: client, server and ksoftirqd.`,
		tables: [
			streams("1 stream"),
			streams("8 streams"),
			transactions("exchange", "TCP request and response"),
			transactions("connect", "TCP connect, request, response, close"),
			loss,
			elsewhere("IPv6", ", IPv6", ["vxlan", "forwarding"]),
			elsewhere("within a Node, IPv4", ", same Node, IPv4", ["forwarding"]),
			elsewhere("within a Node, IPv6", ", same Node, IPv6", ["forwarding"]),
		],
		panels: [
			{
				title: "TCP, one connection on a network of 1500-byte packets: CPUs per Gb/s",
				digits: 2,
				bars: names.map((name) => ({
					name,
					value: spread(values("1 stream", name, cpuPerBit)),
					ours: name.startsWith("Fairway"),
				})),
			},
			{
				title: "TCP request and response, 64 bytes in each direction: CPU µs each, both ends",
				digits: 1,
				bars: names.map((name) => ({
					name,
					value: spread(values("exchange", name, cpuPerOne)),
					ours: name.startsWith("Fairway"),
				})),
			},
		],
		data: Object.fromEntries(results),
	});
});
