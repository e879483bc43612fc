/** Simulates many Nodes at the other end of a Node's link with a BPF program (bench/bpf/reflector.bpf.c). */
import { mkdirSync, rmSync } from "node:fs";
import { type BpfMap, BpfObject } from "#native";
import type { Lab } from "../../src/lab/lab.js";
import { atEnd } from "./cleanup.js";
import { benchObject, setTc } from "./pktgen.js";

export interface Amount {
	packets: number;
	/** Including Ethernet headers. */
	bytes: number;
}

const WHAT = ["direct", "tunnel", "answered", "unanswered", "pod"] as const;

/** Probe requests by path, answered and unanswered ones; packets for Pods. */
export type Seen = Record<(typeof WHAT)[number], Amount>;

export class Reflector {
	private readonly map: BpfMap;

	private constructor(map: BpfMap) {
		this.map = map;
	}

	/** Attaches to a Node's switch port until the end of the bench. @param pods CIDR of all simulated Pods. */
	static async attach(lab: Lab, node: string, pods: string): Promise<Reflector> {
		const object = BpfObject.open(await benchObject("reflector"));
		const [network = "", length = ""] = pods.split("/");
		const knobs = {
			pods_network: Buffer.from(network.split(".").map(Number)).readUInt32BE(),
			pods_mask: (-1 << (32 - Number(length))) >>> 0,
		};
		for (const [name, value] of Object.entries(knobs)) {
			const bytes = Buffer.alloc(4);
			bytes.writeUInt32LE(value);
			object.setReadOnlyData(object.readOnlyVariables[name]!.offset, bytes);
		}
		object.load();
		const pins = `/sys/fs/bpf/fairway-bench-${process.pid}`;
		mkdirSync(pins);
		atEnd(() => rmSync(pins, { recursive: true, force: true }));
		object.program("reflector").pin(`${pins}/reflector`);
		const { port } = lab.underlay.machine(node);
		const subnet = lab.topology.nodes.find(({ name }) => name === node)?.subnet ?? "";
		await setTc(lab.namespace(subnet), port, `${pins}/reflector`);
		return new Reflector(object.map("seen"));
	}

	/** The counts since it was attached. */
	seen(): Seen {
		const amount = (what: number): Amount => {
			const key = Buffer.alloc(4);
			key.writeUInt32LE(what);
			const sum = { packets: 0, bytes: 0 };
			const values = this.map.lookup(key) ?? Buffer.alloc(0);
			for (let at = 0; at < values.length; at += 16) {
				sum.packets += Number(values.readBigUInt64LE(at));
				sum.bytes += Number(values.readBigUInt64LE(at + 8));
			}
			return sum;
		};
		return Object.fromEntries(WHAT.map((name, what) => [name, amount(what)])) as Seen;
	}
}
