/**
 * What the XDP half costs, without the skb that TC or the Pod's stack would make: from the wire
 * to a sink at XDP of the Pod's device, with the floors beside it.
 *
 *   bench/xdp.ts [ROUNDS] [FRAMES]     default 9, 200000
 */
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { locate } from "./tools/frame.js";
import { kernelForwarding, openWays } from "./tools/networks.js";
import { link, Pktgen, type Stream, setXdp } from "./tools/pktgen.js";
import { publish } from "./tools/report.js";
import { Site } from "./tools/site.js";

const rounds = Number(process.argv[2] ?? 9);
const frames = Number(process.argv[3] ?? 200_000);

await bench(async () => {
	const pktgen = await Pktgen.open();
	const comparison = new Comparison(pktgen, rounds, frames);
	const wires = new Map<string, Stream>();
	const tunnels = ["geneve", "vxlan"] as const;
	for (const tunnelType of [undefined, ...tunnels]) {
		const trafficEncapMode = tunnelType === undefined ? "hybrid" : "encap";
		const site = await Site.up(`Fairway ${tunnelType ?? "direct"}`, {
			fairway: { trafficEncapMode, ...(tunnelType === undefined ? {} : { tunnelType }) },
		});
		const wire = await site.ontoWire(pktgen, await site.fromPod(pktgen, {}));
		await site.sinkInPod(pktgen, "sink_xdp");
		wires.set(tunnelType ?? "direct", wire);
		comparison.add(site.name, wire);
	}
	/** A Node whose NIC runs one program, and the same packets as Fairway's. */
	const bare = async (name: string, kind: string, program: string): Promise<void> => {
		const site = await Site.up(name, { network: kernelForwarding });
		const { frame } = wires.get(kind)!;
		const node = site.namespace("node2");
		if (program === "sink_xdp") await pktgen.setSink(node, "eth0", "sink_xdp");
		else {
			await site.sinkInPod(pktgen, "sink_xdp");
			const host = await site.hostSide("pod2");
			const pinned = await openWays(pktgen, program, {
				to_ifindex: host.ifindex,
				destination_mac: (await link(site.namespace("pod2"), "eth0")).mac,
				source_mac: host.mac,
				strip_bytes: locate(frame).outerBytes,
			});
			await setXdp(node, "eth0", pinned);
		}
		comparison.add(name, { frame, out: await site.output(pktgen, "net1", "node2") });
	};
	await bare("XDP drop", "direct", "sink_xdp");
	await bare("bare redirect", "direct", "bare_redirect");
	for (const kind of tunnels) {
		await bare(`bare redirect, ${kind}`, kind, "bare_redirect");
		await bare(`bare strip and redirect, ${kind}`, kind, "bare_strip");
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
		method: `From the switch into the Pod's device, UDP, inner frame of 64 bytes; ${rounds} rounds of ${frames} frames, the ways alternating; median (least–greatest). Sink: XDP of the Pod's device; for "XDP drop" of the NIC.`,
		tables: [
			{
				title: "In half at XDP, IPv4: CPU ns per packet",
				columns: ["", "CPU ns", "÷ bare redirect of the same packet", "Mpps a core", "delivered"],
				rows: [
					row("XDP drop", "bare redirect"),
					row("bare redirect", ""),
					row("Fairway direct", "bare redirect"),
					...tunnels.flatMap((kind) => [
						row(`bare redirect, ${kind}`, ""),
						row(`bare strip and redirect, ${kind}`, `bare redirect, ${kind}`),
						row(`Fairway ${kind}`, `bare redirect, ${kind}`),
					]),
				],
			},
		],
		data: comparison.data(),
	});
});
