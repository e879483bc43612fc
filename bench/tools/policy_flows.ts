/** What a change of policy does to flows that run. */
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import { ETHERNET } from "./frame.js";
import type { Pktgen, Stream } from "./pktgen.js";
import { PolicyTables, put, QUIET_MS } from "./policy_changes.js";
import { denials, policy, tenPolicies } from "./policy_plan.js";
import type { Site } from "./site.js";
import { spread } from "./statistics.js";

const EPOCH_FLOWS = 100_000;
const CUT = { flows: 10_000, frames: 1_500_000, times: 5 };
/** Of TCP behind IPv4. */
const FLAGS = ETHERNET + 20 + 12;
const CHECKSUM = ETHERNET + 20 + 16;

export interface RunningFlows {
	/** CPU of one flow that is judged anew, ns. */
	epoch: { flows: number; each: number };
	/** From the change to the last packet, ms. */
	cut: { flows: number; times: number[] };
}

/** The stream with SYN alone for flags. */
export function synFrame(stream: Stream): Stream {
	const frame = Buffer.from(stream.frame);
	const before = frame.readUInt16BE(FLAGS);
	const syn = (before & 0xf000) | 2;
	frame.writeUInt16BE(syn, FLAGS);
	// RFC 1624.
	const sum = (~frame.readUInt16BE(CHECKSUM) & 0xffff) + (~before & 0xffff) + syn;
	frame.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, CHECKSUM);
	return { ...stream, frame };
}

/** Each flow's first packet after the epoch was raised, against the same without. */
export async function measureEpoch(
	pktgen: Pktgen,
	site: Site,
	stream: Stream,
	rounds: number,
): Promise<RunningFlows["epoch"]> {
	const tables = new PolicyTables(site, "node1");
	const varied = { ...stream, vary: { flows: EPOCH_FLOWS } };
	await pktgen.run(varied, 2 * EPOCH_FLOWS);
	const differences: number[] = [];
	for (let round = 0; round < rounds; round++) {
		const current = await pktgen.run(varied, EPOCH_FLOWS);
		const before = tables.routeEpoch;
		const ports = [{ protocol: "UDP", port: 1 + round }];
		const peers = [{ podSelector: { matchLabels: { app: "somebody" } } }];
		put(site, "more.json", [policy("more", "pod1", "egress", [{ peers, ports }])]);
		while (tables.routeEpoch === before) await delay(5);
		await delay(300);
		const stale = await pktgen.run(varied, EPOCH_FLOWS);
		differences.push(stale.cpuPerPacket - current.cpuPerPacket);
	}
	tables.close();
	return { flows: EPOCH_FLOWS, each: spread(differences).median };
}

/** Denies the running flows, and allows them again. */
export async function measureCut(
	pktgen: Pktgen,
	site: Site,
	stream: Stream,
): Promise<RunningFlows["cut"]> {
	const sink = BpfMap.openPinned(`${pktgen.pins}/received`);
	const count = () => Number(sink.sums(Buffer.alloc(4))[0]);
	const varied = { ...stream, vary: { flows: CUT.flows } };
	const times: number[] = [];
	for (let i = 0; i < CUT.times; i++) {
		await pktgen.run(varied, 2 * CUT.flows);
		const run = pktgen.run(varied, CUT.frames);
		await delay(100);
		const began = performance.now();
		put(site, "client.json", denials()["client.json"]!);
		let [last, seen] = [began, count()];
		while (performance.now() - last < 100 && performance.now() - began < 10_000) {
			await delay(1);
			const now = count();
			if (now !== seen) [last, seen] = [performance.now(), now];
		}
		// Else the generator had ended before.
		if (last > began) times.push(last - began - QUIET_MS);
		await run;
		put(site, "client.json", tenPolicies()["client.json"]!);
		await delay(500);
	}
	sink.close();
	return { flows: CUT.flows, times };
}
