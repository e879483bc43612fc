/**
 * The kernel as the agent sees it: the reconciler, and the slow path on its ring. Everything that
 * the agent does to this machine goes through here, so this is where a test puts something else.
 */
import { fileURLToPath } from "node:url";
import { libbpfVersion, PacketSender, RingBuffer } from "#native";
import { DirectoryLock } from "../api/lock.js";
import type { Config } from "../config/config.js";
import { RECORDS_A_TURN } from "../probe/prober.js";
import { Pins } from "../reconcile/pins.js";
import { Reconciler } from "../reconcile/reconciler.js";
import { RateLimit } from "../slowpath/rate_limit.js";
import { SlowPath, type SlowPathCounters } from "../slowpath/slow_path.js";
import type { Logger } from "./log.js";

/** What the agent uses of the reconciler. */
export type Kernel = Pick<
	Reconciler,
	| "adoptedPaths"
	| "adoptedPeers"
	| "apply"
	| "counters"
	| "flowSlots"
	| "flowsUsed"
	| "mapMemory"
	| "peerCounters"
	| "peerTotals"
	| "podProblem"
	| "problems"
	| "readNetwork"
	| "resizeFlows"
	| "tableReader"
	| "watchNetwork"
	| "xdpMode"
> & {
	readonly libbpf: string;
	/** What became of the packets that were handed up. */
	slowPath(): SlowPathCounters;
	/** Sends an IP packet as it is, from its IP header on. */
	sendProbe(packet: Buffer): void;
	/** Calls back with each record of what probes tell (struct probe_record), until close. */
	onProbeEvent(take: (record: Buffer) => void): void;
	/** Lets go of everything that belongs to this process; forwarding goes on. */
	close(): Promise<void>;
};

export interface KernelOptions {
	runDir: string;
	pinDir: string;
	flowsMax: number;
	xdp: Config["xdp"];
	log: Logger;
}

/** From src/agent and from dist/agent it is the same way up. */
const OBJECT = fileURLToPath(new URL("../../build/bpf/fairway.bpf.o", import.meta.url));

/** @throws Error when another agent uses the pin directory, or the kernel cannot do what is needed */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
	const { pinDir, log } = options;
	// Makes the directory, which may have to be mounted first.
	await Pins.open(pinDir);
	const lock = DirectoryLock.take(pinDir);
	if (lock === undefined) {
		throw new Error(
			`Cannot use the pin directory ${pinDir}: wanted it for this process alone, another agent holds it`,
		);
	}
	const reconciler = await Reconciler.open({ ...options, objectPath: OBJECT });
	const slowPath = new SlowPath({
		ring: reconciler.slowPathMap,
		tables: reconciler.tableReader,
		log,
	});
	const complaints = new RateLimit({ rate: 1 / 6, burst: 5 });
	const probeSender = new PacketSender();
	let probeEvents: RingBuffer | undefined;
	return {
		libbpf: libbpfVersion,
		get tableReader() {
			return reconciler.tableReader;
		},
		adoptedPaths: () => reconciler.adoptedPaths(),
		adoptedPeers: () => reconciler.adoptedPeers(),
		apply: (tables) => reconciler.apply(tables),
		counters: () => reconciler.counters(),
		flowSlots: () => reconciler.flowSlots(),
		mapMemory: () => reconciler.mapMemory(),
		flowsUsed: () => reconciler.flowsUsed(),
		peerCounters: () => reconciler.peerCounters(),
		slowPath: () => ({ ...slowPath.counters }),
		sendProbe: (packet) => {
			try {
				probeSender.sendPacket(packet);
			} catch (err) {
				if (complaints.take("", performance.now())) log.warn({ err }, "a probe could not be sent");
			}
		},
		onProbeEvent: (take) => {
			probeEvents = new RingBuffer(reconciler.probeEventsMap, take, { burst: RECORDS_A_TURN });
		},
		peerTotals: (index) => reconciler.peerTotals(index),
		podProblem: (name) => reconciler.podProblem(name),
		problems: () => reconciler.problems(),
		readNetwork: () => reconciler.readNetwork(),
		resizeFlows: (max) => reconciler.resizeFlows(max),
		watchNetwork: (onChange) => reconciler.watchNetwork(onChange),
		xdpMode: () => reconciler.xdpMode(),
		close: async () => {
			slowPath.close();
			probeEvents?.close();
			probeSender.close();
			await reconciler.close();
			lock.release();
		},
	};
}
