/**
 * Cost of a small packet from Pod to Pod: CPU nanoseconds per packet that arrives, for each half and
 * end to end, for several data paths.
 *
 *   bench/pods.ts [ROUNDS] [FRAMES]     default 9, 100000
 */
import type { Family } from "../src/lab/subnet.js";
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { locate } from "./tools/frame.js";
import { bare, collectMetadata, kernelForwarding, kernelVxlan } from "./tools/networks.js";
import { Pktgen } from "./tools/pktgen.js";
import { PlainPair } from "./tools/plain_pair.js";
import { publish, type Table } from "./tools/report.js";
import { type Dataplane, Site } from "./tools/site.js";

const rounds = Number(process.argv[2] ?? 9);
const frames = Number(process.argv[3] ?? 100_000);

interface Way {
	site: Site;
	family: Family;
}

/** Checks that a way encapsulates if its name says so. */
const isTunnel = ({ name }: Site): boolean => /vxlan|geneve|tunnel/.test(name);

await bench(async () => {
	const pktgen = await Pktgen.open();
	const v4: Way[] = [];
	const v6: Way[] = [];
	const tunnel = (tunnelType: "geneve" | "vxlan") => ({
		fairway: { trafficEncapMode: "encap" as const, tunnelType },
	});
	const both = async (name: string, dataplane: Dataplane): Promise<void> => {
		const site = await Site.up(name, dataplane, { families: [4, 6], neighbour: true });
		v4.push({ site, family: 4 });
		v6.push({ site, family: 6 });
	};
	await both("kernel forwarding", { network: kernelForwarding });
	v4.push({ site: await Site.up("kernel vxlan", { network: kernelVxlan(4) }), family: 4 });
	v6.push({
		site: await Site.up("kernel vxlan", { network: kernelVxlan(6) }, { families: [6] }),
		family: 6,
	});
	for (const tunnel of [false, true]) {
		const name = `bare ${tunnel ? "tunnel" : "redirect"}`;
		v4.push({ site: await Site.up(name, { network: bare(pktgen, { tunnel }) }), family: 4 });
	}
	v4.push({ site: await Site.up("tunnel key", { network: collectMetadata(pktgen) }), family: 4 });
	await both("Fairway direct", { fairway: { trafficEncapMode: "hybrid" } });
	await both("Fairway geneve", tunnel("geneve"));
	await both("Fairway vxlan", tunnel("vxlan"));
	const plain = await PlainPair.up();

	const comparison = new Comparison(pktgen, rounds, frames);
	const key = (half: string, { site, family }: Way) => `${half} ${family} ${site.name}`;
	for (const way of [...v4, ...v6]) {
		const stream = await way.site.fromPod(pktgen, { family: way.family });
		const wire = await way.site.ontoWire(pktgen, stream);
		if (locate(wire.frame).outerBytes > 0 !== isTunnel(way.site))
			throw new Error(
				`Cannot measure ${way.site.name}: expected ${isTunnel(way.site) ? "a" : "no"} tunnel on the wire, got ${wire.frame.toString("hex")}`,
			);
		await way.site.sinkInPod(pktgen, "sink_tc");
		comparison.add(key("out", way), stream);
		comparison.add(key("in", way), wire);
	}
	const hosts = v4.filter(({ site }) => /forwarding| direct$/.test(site.name));
	for (const { site } of hosts) {
		await site.sinkInPod(pktgen, "sink_tc", "neighbour");
		for (const family of [4, 6] as const) {
			const destination = site.lab.address("neighbour", family);
			const stream = await site.fromPod(pktgen, { family, destination });
			comparison.add(`local ${family} ${site.name}`, stream);
		}
	}
	const floor = await plain.stream(pktgen);
	comparison.add("plain", floor);
	comparison.add("generator", { ...floor, out: undefined });
	await comparison.run();
	const endToEnd = new Comparison(pktgen, rounds, frames);
	for (const site of new Set([...v4, ...v6].map((way) => way.site))) await site.switchByXdp(pktgen);
	for (const way of [...v4, ...v6])
		endToEnd.add(key("end", way), await way.site.fromPod(pktgen, { family: way.family }));
	endToEnd.add("plain", floor);
	await endToEnd.run();

	const floors = (): string[][] => {
		const none = Array<string>(5).fill("");
		const alone = comparison.cpu("generator");
		const over = ["kernel vxlan", "kernel forwarding"].map((name) =>
			endToEnd.ratio("plain", `end 4 ${name}`),
		);
		const plain = [endToEnd.cpu("plain"), ...over, endToEnd.rate("plain")];
		return [
			["the generator alone", alone, ...none, "", comparison.rate("generator"), ""],
			["plain veth pair", ...none.slice(1), ...plain, endToEnd.delivered("plain")],
		];
	};
	const tableOf = (family: Family, ways: Way[]): Table => {
		const named = (half: string, name: string) => `${half} ${family} ${name}`;
		const row = ({ site: { name } }: Way): string[] => {
			const [out, into, end] = [named("out", name), named("in", name), named("end", name)];
			return [
				name,
				comparison.cpu(out),
				comparison.ratio(out, named("out", "kernel vxlan")),
				comparison.cpu(into),
				comparison.ratio(into, named("in", "kernel vxlan")),
				endToEnd.cpu(end),
				endToEnd.ratio(end, named("end", "kernel vxlan")),
				endToEnd.ratio(end, named("end", "kernel forwarding")),
				endToEnd.rate(end),
				`${comparison.delivered(out)} ${comparison.delivered(into)} ${endToEnd.delivered(end)}`,
			];
		};
		const rows = ways.map(row);
		if (family === 4) rows.unshift(...floors());
		return {
			title: `Pod to Pod, UDP in frames of ${family === 4 ? 64 : 84} bytes, IPv${family}: CPU ns per packet`,
			columns: [
				"",
				"egress",
				"÷ vxlan",
				"ingress",
				"÷ vxlan",
				"end to end",
				"÷ vxlan",
				"÷ forwarding",
				"Mpps a core",
				"delivered",
			],
			rows,
		};
	};
	const locally: Table = {
		title: "Pod to Pod within a Node: CPU ns per packet",
		columns: ["", "IPv4", "÷ forwarding", "delivered", "IPv6", "÷ forwarding", "delivered"],
		rows: [
			["plain veth pair", comparison.cpu("plain"), "", comparison.delivered("plain"), "", "", ""],
			...hosts.map(({ site: { name } }) => [
				name.replace(" direct", ""),
				...[4, 6].flatMap((family) => [
					comparison.cpu(`local ${family} ${name}`),
					comparison.ratio(`local ${family} ${name}`, `local ${family} kernel forwarding`),
					comparison.delivered(`local ${family} ${name}`),
				]),
			]),
		],
	};
	publish({
		bench: "pods",
		method: `${rounds} rounds of ${frames} frames each, the ways alternating; median (least–greatest).`,
		tables: [tableOf(4, v4), tableOf(6, v6), locally],
		panels: [
			{
				title: "Pod to Pod on two Nodes, 64-byte UDP over IPv4: CPU ns per packet, end to end",
				digits: 0,
				bars: v4.map(({ site: { name } }) => ({
					name,
					value: endToEnd.cpuSpread(`end 4 ${name}`),
					ours: name.startsWith("Fairway"),
				})),
			},
		],
		data: { ...comparison.data(), ...endToEnd.data() },
	});
});
