/** Two Pods connected by nothing but a veth pair: the floor of this machine. */
import { Namespace, run } from "../../src/lab/namespace.js";
import { atEnd } from "./cleanup.js";
import { buildFrame } from "./frame.js";
import { link, type Pktgen, type Sink, type Stream } from "./pktgen.js";
import { Traffic } from "./traffic.js";

export class PlainPair {
	readonly ends: readonly [Namespace, Namespace];
	readonly addresses = ["10.244.1.2", "10.244.2.2"] as const;

	private constructor(ends: [Namespace, Namespace]) {
		this.ends = ends;
	}

	static async up(): Promise<PlainPair> {
		const names = ["a", "b"].map((end) => `fwB-${process.pid}-plain-${end}`);
		const [a, b] = names.map((name) => new Namespace(name)) as [Namespace, Namespace];
		const pair = new PlainPair([a, b]);
		for (const name of names) {
			await run(["ip", "netns", "add", name]);
			atEnd(() => run(["ip", "netns", "del", name], { mayFail: true }));
		}
		await run(
			`ip link add eth0 netns ${a.name} type veth peer name eth0 netns ${b.name}`.split(" "),
		);
		for (const [i, end] of pair.ends.entries())
			await end.script(
				`ip link set dev lo up
				ip link set dev eth0 up
				ip address add ${pair.addresses[i]}/8 dev eth0
				ethtool -K eth0 gro on`,
			);
		return pair;
	}

	/** Makes both ends segment and checksum sent packets, like a NIC. */
	async makeWire(): Promise<void> {
		for (const end of this.ends)
			await end.run("ethtool -K eth0 tx off tso off gso off gro on".split(" "));
	}

	traffic(): Traffic {
		return new Traffic(this.ends[0], this.ends[1], this.addresses[1]);
	}

	async stream(pktgen: Pktgen, sink: Sink = "sink_tc"): Promise<Stream> {
		const [from, to] = this.ends;
		await pktgen.setSink(to, "eth0", sink);
		const frame = buildFrame({
			sourceMac: (await link(from, "eth0")).mac,
			destinationMac: (await link(to, "eth0")).mac,
			source: this.addresses[0],
			destination: this.addresses[1],
			protocol: "udp",
			size: 64,
		});
		return { frame, out: await pktgen.output(from, "eth0") };
	}
}
