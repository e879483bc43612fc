/**
 * The in-kernel generator and its sinks, for devices of any network namespace.
 *
 *  1. programs and maps are loaded once and pinned, so that ip(8) and tc(8) can attach them from
 *     inside a namespace
 *  2. an output is a device that frames are sent out of, as if by its own stack
 *  3. a run sends and waits; the sink counts packets
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { BpfMap, BpfObject, type BpfProgram } from "#native";
import { type Namespace, run } from "../../src/lab/namespace.js";
import { atEnd } from "./cleanup.js";
import { encodePattern, type Variation } from "./frame.js";
import type { Answer, Order } from "./worker.js";

const top = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const workerProgram = fileURLToPath(new URL("worker.ts", import.meta.url));

/** The CPU of the generator and of everything that follows from it. Not CPU 0, which serves most interrupts. */
export const MEASURED_CPU = 1;

export interface Stream {
	frame: Buffer;
	/** An output; undefined: frames are discarded, which shows the generator's own cost. */
	out: number | undefined;
	vary?: Variation;
}

export interface Run {
	sent: number;
	received: number;
	/** Of them, on another CPU than the generator's. */
	elsewhere: number;
	/** CPU time, ns. */
	cpu: number;
	/** CPU nanoseconds per packet that arrived; Infinity: none did. */
	cpuPerPacket: number;
	/** Packets per second of CPU time, if one CPU does all the work. */
	packetsPerSecond: number;
}

/** What a comparison needs of the generator. */
export type Generator = Pick<Pktgen, "run">;

export type Sink = "sink_tc" | "sink_xdp" | "sample";

const made = new Map<string, Promise<string>>();

/** The path of a file in build/bench/, built on first use. */
export function benchFile(name: string): Promise<string> {
	let path = made.get(name);
	if (path === undefined) {
		const make = run(["make", "--silent", "-C", `${top}/bench`, `../build/bench/${name}`]);
		path = make.then(() => `${top}/build/bench/${name}`);
		made.set(name, path);
	}
	return path;
}

/** The path of a BPF object of the benches. */
export const benchObject = (name: string): Promise<string> => benchFile(`${name}.bpf.o`);

export class Pktgen {
	readonly pins: string;
	private readonly worker: ChildProcess;
	private readonly waiting = new Map<number, (answer: Answer) => void>();
	private readonly samples: BpfMap;
	private nextId = 1;
	private nextOutput = 1;
	private nextPin = 1;

	private constructor(pins: string, worker: ChildProcess, samples: BpfMap) {
		this.pins = pins;
		this.worker = worker;
		this.samples = samples;
		createInterface({ input: worker.stdout! }).on("line", (line) => {
			const answer = JSON.parse(line) as Answer;
			this.waiting.get(answer.id)?.(answer);
			this.waiting.delete(answer.id);
		});
		worker.on("exit", () => {
			const answer = { id: 0, sent: 0, received: 0, elsewhere: 0, cpu: 0, elapsed: 0 };
			for (const resolve of this.waiting.values())
				resolve({ ...answer, error: "its process ended" });
		});
	}

	/** Loads the generator; it is removed at the end of the bench. */
	static async open(): Promise<Pktgen> {
		const generator = BpfObject.open(await benchObject("pktgen"));
		const sinks = BpfObject.open(await benchObject("sink"));
		const pins = `/sys/fs/bpf/fairway-bench-${process.pid}`;
		mkdirSync(pins);
		atEnd(() => rmSync(pins, { recursive: true, force: true }));
		for (const object of [generator, sinks]) {
			object.load();
			for (const name of object.programNames) object.program(name).pin(`${pins}/${name}`);
			for (const name of object.mapNames) object.map(name).pin(`${pins}/${name}`);
			object.close();
		}
		const worker = spawn(
			"taskset",
			["-c", `${MEASURED_CPU}`, process.execPath].concat(
				...["--import=tsx", workerProgram, pins, `${MEASURED_CPU}`],
			),
			// A session of its own: Ctrl-C reaches only the bench, which then ends the generator.
			{ cwd: top, stdio: ["pipe", "pipe", "inherit"], detached: true },
		);
		atEnd(() => worker.stdin?.end());
		const pktgen = new Pktgen(pins, worker, BpfMap.openPinned(`${pins}/samples`));
		const ready = await new Promise<Answer>((resolve) => pktgen.waiting.set(0, resolve));
		if (ready.error !== undefined) throw new Error(`Cannot start the generator: ${ready.error}`);
		return pktgen;
	}

	/** @throws Error if frames cannot be sent out of the device. */
	async output(namespace: Namespace, device: string): Promise<number> {
		const id = this.nextOutput++;
		const { ifindex } = await link(namespace, device);
		const bytes = (n: number) => [0, 8, 16, 24].map((shift) => `${(n >>> shift) & 255}`);
		// Inside the namespace: the kernel looks up the device in the writer's namespace.
		await namespace.run(
			["bpftool", "map", "update", "pinned", `${this.pins}/outputs`].concat(
				...["key", ...bytes(id), "value", ...bytes(ifindex)],
			),
		);
		return id;
	}

	/** Pins a program of another object, for ip(8) and tc(8). */
	pin(program: BpfProgram): string {
		const path = `${this.pins}/other_${this.nextPin++}`;
		program.pin(path);
		return path;
	}

	/** Sets the sink at the ingress of a device, replacing any other. */
	async setSink(namespace: Namespace, device: string, sink: Sink | undefined): Promise<void> {
		const tc = sink !== undefined && sink !== "sink_xdp";
		await namespace.run(["tc", "qdisc", "del", "dev", device, "clsact"], { mayFail: true });
		await setXdp(namespace, device, sink === "sink_xdp" ? `${this.pins}/sink_xdp` : undefined);
		if (tc) await setTc(namespace, device, `${this.pins}/${sink}`);
	}

	/** Sends until a "sample" sink has seen a frame, and returns that frame. */
	async sample(stream: Stream): Promise<Buffer> {
		const { received } = await this.run(stream, 64);
		const sample = this.samples.lookup(Buffer.alloc(4)) ?? Buffer.alloc(0);
		if (received === 0)
			throw new Error("Cannot take a sample: none of 64 packets reached the sink");
		const length = sample.readUInt32LE(0);
		const frame = Buffer.alloc(length);
		sample.copy(frame, 0, 8, 8 + Math.min(length, 256));
		return frame;
	}

	async run({ frame, out, vary }: Stream, frames: number): Promise<Run> {
		const id = this.nextId++;
		const order: Order = {
			id,
			program: out === undefined ? "generate_only" : "generate",
			pattern: encodePattern(frame, out ?? 0, vary).toString("base64"),
			frame: frame.toString("base64"),
			frames,
		};
		const answer = await new Promise<Answer>((resolve) => {
			this.waiting.set(id, resolve);
			this.worker.stdin?.write(`${JSON.stringify(order)}\n`);
		});
		if (answer.error !== undefined) throw new Error(`Cannot generate: ${answer.error}`);
		const { sent, received, elsewhere, cpu } = answer;
		const cpuPerPacket = received === 0 ? Infinity : cpu / received;
		return { sent, received, elsewhere, cpu, cpuPerPacket, packetsPerSecond: 1e9 / cpuPerPacket };
	}
}

/** Attaches a program in native mode, or detaches it. */
export async function setXdp(
	namespace: Namespace,
	device: string,
	pinned: string | undefined,
): Promise<void> {
	const program = pinned === undefined ? ["off"] : ["pinned", pinned];
	await namespace.run(["ip", "link", "set", "dev", device, "xdpdrv", ...program], {
		mayFail: pinned === undefined,
	});
}

export async function setTc(namespace: Namespace, device: string, pinned: string): Promise<void> {
	await namespace.script(
		`tc qdisc add dev ${device} clsact
		tc filter add dev ${device} ingress bpf direct-action object-pinned ${pinned}`,
	);
}

export interface Link {
	name: string;
	ifindex: number;
	mac: string;
	/** For a veth: ifindex of the other end, in that end's namespace. */
	peer: number;
}

export async function links(namespace: Namespace): Promise<Link[]> {
	const { stdout } = await namespace.run(["ip", "-json", "link", "show"]);
	const all = JSON.parse(stdout) as {
		ifname: string;
		ifindex: number;
		address: string;
		link_index?: number;
	}[];
	return all.map(({ ifname, ifindex, address, link_index }) => ({
		name: ifname,
		ifindex,
		mac: address,
		peer: link_index ?? 0,
	}));
}

export async function link(namespace: Namespace, device: string): Promise<Link> {
	const found = (await links(namespace)).find(({ name }) => name === device);
	if (found === undefined)
		throw new Error(`Cannot find device ${device}: ${namespace.name} has none of that name`);
	return found;
}
