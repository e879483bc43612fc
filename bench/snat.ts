/**
 * What a small packet from a Pod to the outside costs until it is on the wire: forwarded as it is,
 * with the Node's address by nftables, and by Fairway. One flow, ten thousand, and only new ones.
 *
 *   bench/snat.ts [ROUNDS] [FRAMES]     default 9, 60000
 */
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { kernelForwarding, nftMasquerade } from "./tools/networks.js";
import { Pktgen } from "./tools/pktgen.js";
import { publish } from "./tools/report.js";
import { Site } from "./tools/site.js";

const rounds = Number(process.argv[2] ?? 9);
const frames = Number(process.argv[3] ?? 60_000);
/** New flows stay in the tables until they expire: few enough that no table gets full. */
const NEW_FRAMES = Math.min(frames, 10_000);
const NEW = 8_000_000;
const OUTSIDE = "203.0.113.10";

await bench(async () => {
	const pktgen = await Pktgen.open();
	const sites = [
		await Site.up("kernel forwarding", { network: kernelForwarding }),
		await Site.up("nft masquerade", { network: nftMasquerade }),
		await Site.up("Fairway SNAT", {
			fairway: { trafficEncapMode: "encap", flows: { max: 524_288 } },
		}),
	];
	const known = new Comparison(pktgen, rounds, frames);
	const fresh = new Comparison(pktgen, rounds, NEW_FRAMES);
	for (const site of sites) {
		await site.reach("pod1", "outside", 4);
		const stream = await site.fromPod(pktgen, { destination: OUTSIDE });
		const { frame } = await site.ontoWire(pktgen, stream);
		const source = [...frame.subarray(26, 30)].join(".");
		const wanted = site === sites[0] ? site.lab.address("pod1", 4) : "192.168.1.1";
		if (source !== wanted)
			throw new Error(`Cannot measure ${site.name}: wanted source ${wanted}, is ${source}`);
		for (const flows of [1, 10_000])
			known.add(`${flows} ${site.name}`, { ...stream, vary: { flows } });
		fresh.add(`new ${site.name}`, { ...stream, vary: { flows: NEW } });
	}
	await known.run();
	await fresh.run();

	const cells = (comparison: Comparison, flows: string, name: string): string[] => [
		comparison.cpu(`${flows} ${name}`),
		comparison.ratio(`${flows} ${name}`, `${flows} nft masquerade`),
		comparison.delivered(`${flows} ${name}`),
	];
	const heads = (flows: string) => [flows, "÷ nft", "delivered"];
	const rows = sites.map(({ name }) => [
		name,
		...cells(known, "1", name),
		...cells(known, "10000", name),
		...cells(fresh, "new", name),
		fresh.rate(`new ${name}`),
	]);
	publish({
		bench: "snat",
		method: `Pod to the outside, out half, UDP in frames of 64 bytes; ${rounds} rounds of ${frames} frames (new flows: ${NEW_FRAMES}), the ways alternating; median (least–greatest).`,
		tables: [
			{
				title: "Pod to the outside, IPv4: CPU ns per packet",
				columns: ["", ...heads("1 flow"), ...heads("10k flows"), ...heads("new flows"), "M new/s"],
				rows,
			},
		],
		panels: [
			{
				title: "Pod to the outside with 10,000 flows: CPU ns per packet until it is on the wire",
				digits: 0,
				bars: sites.map(({ name }) => ({
					name,
					value: known.cpuSpread(`10000 ${name}`),
					ours: name.startsWith("Fairway"),
				})),
			},
		],
		data: { ...known.data(), ...fresh.data() },
	});
});
