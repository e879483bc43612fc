/**
 * The packet generator for any device. Without options: the cost of the generator itself, by frame
 * size and number of flows.
 *
 *   bench/pktgen.ts --device DEV [--netns NAME] --source-mac MAC --destination-mac MAC
 *     --source ADDRESS --destination ADDRESS [--protocol udp|tcp] [--size BYTES] [--flows N]
 *     [--frames N] [--rounds N] [--sink DEV [--sink-netns NAME] [--sink-at tc|xdp]]
 *
 * A program in the kernel sends frames out of DEV as if its own stack had sent them; --sink counts and
 * drops what arrives at another device. bench/pktgen.sh uses the kernel's pktgen between two machines
 * or NICs, with the same options where both have them.
 */
import { parseArgs } from "node:util";
import { Namespace } from "../src/lab/namespace.js";
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { buildFrame } from "./tools/frame.js";
import { Pktgen, type Stream } from "./tools/pktgen.js";
import { publish } from "./tools/report.js";

const { values: options } = parseArgs({
	options: {
		device: { type: "string" },
		netns: { type: "string" },
		"source-mac": { type: "string", default: "02:00:00:00:00:01" },
		"destination-mac": { type: "string", default: "02:00:00:00:00:02" },
		source: { type: "string", default: "198.18.0.1" },
		destination: { type: "string", default: "198.18.0.2" },
		protocol: { type: "string", default: "udp" },
		size: { type: "string", default: "64" },
		flows: { type: "string", default: "1" },
		frames: { type: "string", default: "1000000" },
		rounds: { type: "string", default: "7" },
		sink: { type: "string" },
		"sink-netns": { type: "string" },
		"sink-at": { type: "string", default: "tc" },
	},
});
const { protocol, "sink-at": sinkAt } = options;
if ((protocol !== "udp" && protocol !== "tcp") || (sinkAt !== "tc" && sinkAt !== "xdp"))
	throw new Error(
		`Cannot generate: expected --protocol udp or tcp and --sink-at tc or xdp, got ${protocol}, ${sinkAt}`,
	);

/** Without a name, the namespace of process 1, which is the machine's own. */
function namespace(name: string | undefined): Namespace {
	if (name !== undefined) return new Namespace(name);
	const own = new Namespace("of this machine");
	return Object.assign(own, { path: "/proc/self/ns/net" });
}

const frameOf = (size: number): Buffer =>
	buildFrame({
		sourceMac: options["source-mac"],
		destinationMac: options["destination-mac"],
		source: options.source,
		destination: options.destination,
		protocol,
		size,
	});

await bench(async () => {
	const pktgen = await Pktgen.open();
	const comparison = new Comparison(pktgen, Number(options.rounds), Number(options.frames));
	const names: string[] = [];
	const add = (name: string, stream: Stream): void => {
		names.push(name);
		comparison.add(name, stream);
	};
	if (options.device === undefined) {
		for (const size of [64, 128, 512, 1400])
			add(`${size} bytes, 1 flow`, { frame: frameOf(size), out: undefined });
		for (const flows of [10_000, 1_000_000])
			add(`64 bytes, ${flows} flows`, { frame: frameOf(64), out: undefined, vary: { flows } });
	} else {
		const out = await pktgen.output(namespace(options.netns), options.device);
		if (options.sink !== undefined)
			await pktgen.setSink(namespace(options["sink-netns"]), options.sink, `sink_${sinkAt}`);
		add(`${options.size} bytes, ${options.flows} flows`, {
			frame: frameOf(Number(options.size)),
			out,
			vary: { flows: Number(options.flows) },
		});
	}
	const counted = options.device === undefined || options.sink !== undefined;
	await comparison.run();
	publish({
		bench: "pktgen",
		method: `${options.rounds} rounds of ${options.frames} frames; median (least–greatest).`,
		tables: [
			{
				title: options.device === undefined ? "The generator alone" : `Out of ${options.device}`,
				columns: ["", "CPU ns", "Mpps a core", "delivered"],
				rows: names.map((name) => [
					name,
					// Without a sink, only the cost of sending is known.
					counted ? comparison.cpu(name) : comparison.cpuSent(name),
					counted ? comparison.rate(name) : "–",
					counted ? comparison.delivered(name) : "not counted",
				]),
			},
		],
		data: comparison.data(),
	});
	if (options.sink !== undefined)
		await pktgen.setSink(namespace(options["sink-netns"]), options.sink, undefined);
});
