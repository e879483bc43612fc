/**
 * Cost of a small packet from a Pod to the outside until it is on the wire, and of the answer from there
 * to the Pod: forwarded unchanged, masqueraded by nftables, and translated by Fairway. With one flow,
 * ten thousand, and only new ones. There is no other half to measure: the outside is not Fairway's.
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
/** New flows stay in the tables until they expire; few enough to fill no table. */
const NEW_FRAMES = Math.min(frames, 10_000);
const NEW = 8_000_000;
const OUTSIDE = "203.0.113.10";
/** Fairway and nftables both keep source ports from here on, so that the answers are predictable. */
const KEPT_PORT = 50_000;
const FLOWS = [1, 10_000];

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
		const unknown = await site.fromPod(pktgen, { destination: OUTSIDE });
		const stream = await site.fromPod(pktgen, {
			destination: OUTSIDE,
			sourcePort: KEPT_PORT,
		});
		const wire = await site.ontoWire(pktgen, stream);
		const source = [...wire.frame.subarray(26, 30)].join(".");
		const wanted = site === sites[0] ? site.lab.address("pod1", 4) : "192.168.1.1";
		if (source !== wanted)
			throw new Error(`Cannot measure ${site.name}: expected source ${wanted}, got ${source}`);
		await site.sinkInPod(pktgen, "sink_tc", "pod1");
		for (const flows of FLOWS) {
			const one = { ...stream, vary: { flows } };
			// Flows must exist before they can be answered.
			await pktgen.run(one, flows * 2);
			known.add(`${flows} ${site.name}`, one);
			const back = await site.answers(pktgen, { ...wire, vary: { flows } });
			known.add(`answers ${flows} ${site.name}`, back);
		}
		fresh.add(`new ${site.name}`, { ...unknown, vary: { flows: NEW } });
	}
	await known.run();
	await fresh.run();

	const cells = (comparison: Comparison, what: string, name: string): string[] => [
		comparison.cpu(`${what} ${name}`),
		comparison.ratio(`${what} ${name}`, `${what} nft masquerade`),
		comparison.delivered(`${what} ${name}`),
	];
	const heads = (flows: string) => [flows, "÷ nft", "delivered"];
	const rows = sites.map(({ name }) => [
		name,
		...cells(known, "1", name),
		...cells(known, "10000", name),
		...cells(fresh, "new", name),
		fresh.rate(`new ${name}`),
	]);
	const back = sites.map(({ name }) => [
		name,
		...FLOWS.flatMap((flows) => cells(known, `answers ${flows}`, name)),
	]);
	publish({
		bench: "snat",
		method: `Pod to the outside, each half, UDP in frames of 64 bytes; ${rounds} rounds of ${frames} frames (new flows: ${NEW_FRAMES}), the ways alternating; median (least–greatest).`,
		tables: [
			{
				title: "Pod to the outside, IPv4, egress half: CPU ns per packet",
				columns: ["", ...heads("1 flow"), ...heads("10k flows"), ...heads("new flows"), "M new/s"],
				rows,
			},
			{
				title: "From the outside, IPv4, ingress half: CPU ns per answer",
				columns: ["", ...heads("1 flow"), ...heads("10k flows")],
				rows: back,
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
