/** Sums up many decisions in the form of the data path's counters. */
import type { Decision } from "../../src/forwarder/forwarder.js";
import {
	DropReason,
	DropReasonName,
	EventCounter,
	EventCounterName,
	ProbeEvent,
} from "../../src/tables/generated.js";
import { type DataPath, PEER_INDEXES } from "./data_path.js";
import { RULES } from "./random_policies.js";

export class Tally {
	/** Indexes of the peers to which traffic has begun. */
	readonly traffic: number[] = [];
	/** Indexes of those whose next hop was resolved by a packet that bypassed the tunnel. */
	readonly bypassed = new Set<number>();
	readonly #drops = new Map<number, bigint>();
	readonly #events = new Map<number, bigint>();
	readonly #peers = new Map<string, bigint>();
	readonly #rules = new Map<string, bigint>();

	/** @param refused the test run could not write a tunnel's headers, so the packet was dropped */
	add(decision: Decision, refused: boolean): void {
		const { dropReason, events, sent, received, stripped, records, ruleCounts } = decision;
		if (decision.nextHop && !decision.activity) this.bypassed.add(decision.nextHop.index);
		for (const { rule, what } of ruleCounts) increase(this.#rules, `rule ${rule} ${what}`, 1n);
		for (const { event, index } of records) {
			if (event === ProbeEvent.TRAFFIC) this.traffic.push(index);
		}
		const reason = refused ? DropReason.REWRITE_FAILED : dropReason;
		if (reason !== DropReason.NONE) increase(this.#drops, reason, 1n);
		for (const event of events) increase(this.#events, event, 1n);
		for (const [one, kind] of [
			[received, "received"],
			[stripped, "receivedTunnel"],
		] as const) {
			if (!one) continue;
			increase(this.#peers, `${one.index} ${kind}Packets`, BigInt(one.packets));
			increase(this.#peers, `${one.index} ${kind}Large`, BigInt(one.large));
		}
		if (!sent || refused) return;
		const way = sent.tunnel ? "tunnel" : "direct";
		increase(this.#peers, `${sent.index} ${way}Packets`, BigInt(sent.packets));
		increase(this.#peers, `${sent.index} ${way}Bytes`, BigInt(sent.bytes));
		if (!sent.tunnel) increase(this.#peers, `${sent.index} directLarge`, BigInt(sent.large));
	}

	lines(): string[] {
		return [
			...[...this.#drops].map(([reason, n]) => `${DropReasonName[reason]} ${n}`),
			...[...this.#events]
				// How often a next hop is resolved again depends on time.
				.filter(([event]) => event !== EventCounter.NEXT_HOP_REFRESHED)
				.map(([event, n]) => `${EventCounterName[event]} ${n}`),
			...[...this.#rules].map(([what, n]) => `${what} ${n}`),
			...[...this.#peers].filter(([, n]) => n > 0n).map(([what, n]) => `${what} ${n}`),
		].sort();
	}
}

/** The same of the data path's own counters. */
export function countersOf(dataPath: DataPath): string[] {
	const drops = Object.values(DropReason).filter((reason) => reason < DropReason.REASON_COUNT);
	const events = Object.values(EventCounter).filter(
		(event) => event < EventCounter.COUNT && event !== EventCounter.NEXT_HOP_REFRESHED,
	);
	const lines = [
		...drops.map((reason) => [DropReasonName[reason], dataPath.drops(reason)] as const),
		...events.map((event) => [EventCounterName[event], dataPath.event(event)] as const),
	];
	for (let rule = 0; rule < RULES; rule++) {
		const { flows, packets, staged } = dataPath.ruleCounter(rule);
		for (const [what, n] of Object.entries({ flows, packets, staged }))
			lines.push([`rule ${rule} ${what}`, n] as const);
	}
	for (let index = 0; index < PEER_INDEXES; index++) {
		for (const [field, value] of Object.entries(dataPath.counter(index))) {
			lines.push([`${index} ${field}`, value] as const);
		}
	}
	return lines
		.filter(([, value]) => value > 0n)
		.map(([what, value]) => `${what} ${value}`)
		.sort();
}

function increase<K>(map: Map<K, bigint>, key: K, by: bigint): void {
	map.set(key, (map.get(key) ?? 0n) + by);
}
