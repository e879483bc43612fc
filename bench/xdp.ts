/**
 * Cost of the XDP half without the skb that TC or the Pod's stack would allocate: from the wire to a
 * sink at XDP of the Pod's device, with its floors.
 *
 *   bench/xdp.ts [ROUNDS] [FRAMES]     default 9, 200000
 */
import type { Family } from "../src/lab/subnet.js";
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { locate } from "./tools/frame.js";
import { kernelForwarding, openWays } from "./tools/networks.js";
import { link, Pktgen, type Stream, setXdp } from "./tools/pktgen.js";
import { publish } from "./tools/report.js";
import { Site } from "./tools/site.js";

const rounds = Number(process.argv[2] ?? 9);
const frames = Number(process.argv[3] ?? 200_000);

const over = (name: string, family: Family): string => `${name}${family === 6 ? ", IPv6" : ""}`;

await bench(async () => {
	const pktgen = await Pktgen.open();
	const comparison = new Comparison(pktgen, rounds, frames);
	const wires = new Map<string, Stream>();
	const tunnels = ["geneve", "vxlan"] as const;
	for (const tunnelType of [undefined, ...tunnels]) {
		const trafficEncapMode = tunnelType === undefined ? "hybrid" : "encap";
		const kind = tunnelType ?? "direct";
		const site = await Site.up(
			`Fairway ${kind}`,
			{ fairway: { trafficEncapMode, ...(tunnelType === undefined ? {} : { tunnelType }) } },
			{ families: [4, 6] },
		);
		for (const family of [4, 6] as const) {
			const wire = await site.ontoWire(pktgen, await site.fromPod(pktgen, { family }));
			wires.set(over(kind, family), wire);
			comparison.add(over(site.name, family), wire);
		}
		await site.sinkInPod(pktgen, "sink_xdp");
	}
	/** A Node whose NIC runs one bare program, with the same packets as Fairway. */
	const bare = async (name: string, program: string, kinds: Record<string, string>) => {
		const site = await Site.up(name, { network: kernelForwarding });
		const frames = Object.entries(kinds).map(([as, kind]) => ({ as, ...wires.get(kind)! }));
		const node = site.namespace("node2");
		if (program === "sink_xdp") await pktgen.setSink(node, "eth0", "sink_xdp");
		else {
			await site.sinkInPod(pktgen, "sink_xdp");
			const host = await site.hostSide("pod2");
			const pinned = await openWays(pktgen, program, {
				to_ifindex: host.ifindex,
				destination_mac: (await link(site.namespace("pod2"), "eth0")).mac,
				source_mac: host.mac,
				strip_bytes: locate(frames[0]!.frame).outerBytes,
			});
			await setXdp(node, "eth0", pinned);
		}
		const out = await site.output(pktgen, "net1", "node2");
		for (const { as, frame } of frames) comparison.add(as, { frame, out });
	};
	await bare("XDP drop", "sink_xdp", { "XDP drop": "direct" });
	const all = ["direct", ...tunnels].flatMap((kind) => [over(kind, 4), over(kind, 6)]);
	const redirects = all.map((kind) => [`bare redirect, ${kind}`, kind]);
	await bare("bare redirect", "bare_redirect", Object.fromEntries(redirects));
	for (const kind of tunnels)
		for (const family of [4, 6] as const) {
			const one = over(kind, family);
			const name = `bare strip and redirect, ${one}`;
			await bare(name, "bare_strip", { [name]: one });
		}
	await comparison.run();
	const row = (name: string, floor: string): string[] => [
		name,
		comparison.cpu(name),
		floor === "" ? "" : comparison.ratio(name, floor),
		comparison.rate(name),
		comparison.delivered(name),
	];
	publish({
		bench: "xdp",
		method: `From the switch into the Pod's device, UDP, inner frame of 64 bytes (IPv6: 84); ${rounds} rounds of ${frames} frames, the ways alternating; median (least–greatest). Sink: XDP of the Pod's device; for "XDP drop" of the NIC.`,
		tables: ([4, 6] as const).map((family) => ({
			title: `Ingress half at XDP, IPv${family}: CPU ns per packet`,
			columns: ["", "CPU ns", "÷ bare redirect of the same packet", "Mpps a core", "delivered"],
			rows: [
				...(family === 4 ? [row("XDP drop", "bare redirect, direct")] : []),
				row(`bare redirect, ${over("direct", family)}`, ""),
				row(over("Fairway direct", family), `bare redirect, ${over("direct", family)}`),
				...tunnels.flatMap((tunnel) => {
					const kind = over(tunnel, family);
					return [
						row(`bare redirect, ${kind}`, ""),
						row(`bare strip and redirect, ${kind}`, `bare redirect, ${kind}`),
						row(`Fairway ${kind}`, `bare redirect, ${kind}`),
					];
				}),
			],
		})),
		data: comparison.data(),
	});
});
