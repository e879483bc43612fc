/**
 * The kernel from the agent's point of view: the reconciler, and the slow path on its ring. All changes that
 * the agent makes to this machine go through this interface, so tests can replace it.
 */
import { networkInterfaces } from "node:os";
import { fileURLToPath } from "node:url";
import { libbpfVersion, PacketSender, RingBuffer } from "#native";
import type { Config } from "../config/config.js";
import { DirectoryLock } from "../linux/lock.js";
import { RECORDS_A_TURN } from "../probe/schedule.js";
import type { Readings } from "../reconcile/maps/readings.js";
import { Pins } from "../reconcile/programs/pins.js";
import { Reconciler } from "../reconcile/reconciler.js";
import { RateLimit } from "../slowpath/rate_limit.js";
import { SlowPath, type SlowPathCounters } from "../slowpath/slow_path.js";
import { type Log, withComponent } from "../text/log.js";

/** The parts of the reconciler that the agent uses. */
export type Kernel = Pick<
	Reconciler,
	| "adoptPolicies"
	| "change"
	| "changePolicies"
	| "flowSlots"
	| "mapMemory"
	| "peerEntries"
	| "podProblem"
	| "policyRules"
	| "problems"
	| "putPath"
	| "readNetwork"
	| "resizeFlows"
	| "ruleCounters"
	| "serviceEntries"
	| "serviceEntriesUsed"
	| "tableReader"
	| "watchNetwork"
	| "watchPolicies"
	| "xdpMode"
> &
	Pick<
		Readings,
		| "adoptedPaths"
		| "adoptedPeers"
		| "counters"
		| "denialNotes"
		| "flowsUsed"
		| "liveFlows"
		| "peerCounters"
		| "peerTotals"
		| "flowUsage"
	> & {
		readonly libbpf: string;
		/** Counts of what happened to packets in the slow path. */
		slowPath(): SlowPathCounters;
		/** Sends an IP packet as it is, from its IP header on. */
		sendProbe(packet: Buffer): void;
		/** Calls back with each probe event (struct probe_record), until close. */
		onProbeEvent(take: (record: Buffer) => void): void;
		/** Releases everything that belongs to this process; forwarding continues. */
		close(): Promise<void>;
	};

export interface KernelOptions {
	runDir: string;
	pinDir: string;
	flowsMax: number;
	xdp: Config["xdp"];
	log: Log;
}

/** The path works from src/agent and from dist/agent. */
const OBJECT = fileURLToPath(new URL("../../build/bpf/fairway.bpf.o", import.meta.url));

/** @throws Error if another agent uses the pin directory, or the kernel lacks a feature */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
	const { pinDir, log } = options;
	// Creates the directory, which may have to be mounted first.
	await Pins.open(pinDir);
	const lock = DirectoryLock.take(pinDir);
	if (lock === undefined) {
		throw new Error(`Cannot use the pin directory ${pinDir}: it is locked by another agent`);
	}
	const reconciler = await Reconciler.open({
		...options,
		objectPath: OBJECT,
		log: withComponent(log, "reconcile"),
	});
	const slowPath = new SlowPath({
		ring: reconciler.slowPathMap,
		tables: reconciler.tableReader,
		log: withComponent(log, "slowpath"),
	});
	reconciler.watchFailedNeighbours(({ address, device }) =>
		slowPath.nextHopFailed({ address, ifindex: linkLocalScope(device) }),
	);
	const complaints = new RateLimit({ rate: 1 / 6, burst: 5 });
	const probeSender = new PacketSender();
	let probeEvents: RingBuffer | undefined;
	return {
		libbpf: libbpfVersion,
		get tableReader() {
			return reconciler.tableReader;
		},
		get policyRules() {
			return reconciler.policyRules;
		},
		adoptPolicies: () => reconciler.adoptPolicies(),
		changePolicies: (changes, peerIds) => reconciler.changePolicies(changes, peerIds),
		ruleCounters: (rules) => reconciler.ruleCounters(rules),
		adoptedPaths: () => reconciler.readings.adoptedPaths(),
		adoptedPeers: () => reconciler.readings.adoptedPeers(),
		change: (changes) => reconciler.change(changes),
		counters: () => reconciler.readings.counters(),
		flowSlots: () => reconciler.flowSlots(),
		mapMemory: () => reconciler.mapMemory(),
		flowsUsed: () => reconciler.readings.flowsUsed(),
		denialNotes: () => reconciler.readings.denialNotes(),
		liveFlows: () => reconciler.readings.liveFlows(),
		peerCounters: () => reconciler.readings.peerCounters(),
		slowPath: () => ({ ...slowPath.counters }),
		sendProbe: (packet) => {
			try {
				probeSender.sendPacket(packet);
			} catch (err) {
				if (complaints.take("", performance.now()))
					withComponent(log, "probe").warn({ err }, "cannot send a probe");
			}
		},
		onProbeEvent: (take) => {
			probeEvents = new RingBuffer(reconciler.probeEventsMap, take, { burst: RECORDS_A_TURN });
		},
		peerEntries: (ids) => reconciler.peerEntries(ids),
		peerTotals: (index) => reconciler.readings.peerTotals(index),
		podProblem: (name) => reconciler.podProblem(name),
		problems: () => reconciler.problems(),
		putPath: (index, peer) => reconciler.putPath(index, peer),
		readNetwork: () => reconciler.readNetwork(),
		resizeFlows: (max) => reconciler.resizeFlows(max),
		serviceEntries: () => reconciler.serviceEntries(),
		serviceEntriesUsed: () => reconciler.serviceEntriesUsed(),
		flowUsage: (services) => reconciler.readings.flowUsage(services),
		watchNetwork: (onChange) => reconciler.watchNetwork(onChange),
		watchPolicies: (onChange) => reconciler.watchPolicies(onChange),
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

/** The index of a device with an IPv6 link-local address, without which it has no neighbour of that kind. */
function linkLocalScope(device: string): number | undefined {
	const addresses = networkInterfaces()[device] ?? [];
	return addresses.find(({ scopeid }) => scopeid !== undefined && scopeid > 0)?.scopeid;
}
