/**
 * The flows that network policy denies: the core's notes about single packets, merged by source, destination, port and
 * rule. Their number is bounded; the one with the oldest last packet is dropped first.
 */
import type { RuleName } from "../policy/policy_tables.js";

export interface DeniedPacket {
	/** Milliseconds since the epoch. */
	time: number;
	source: string;
	destination: string;
	/** IPPROTO. */
	protocol: number;
	destinationPort: number;
}

export interface Denial {
	source: string;
	destination: string;
	protocol: number;
	/** Destination port; 0 where the protocol has none. */
	port: number;
	rule: RuleName;
	/** Milliseconds since the epoch. */
	first: number;
	last: number;
	/** Number of notes; packets are counted by rule. */
	noted: number;
}

const MOST = 1000;
const WITH_PORTS: ReadonlySet<number> = new Set([6, 17, 132]);

export class Denials {
	readonly #most: number;
	/** In order of the last packet. */
	readonly #denials = new Map<string, Denial>();

	constructor(most = MOST) {
		this.#most = most;
	}

	/** Returns the entry if it is new. */
	take(
		{ time, source, destination, protocol, destinationPort }: DeniedPacket,
		rule: RuleName,
	): Denial | undefined {
		const port = WITH_PORTS.has(protocol) ? destinationPort : 0;
		const by = [rule.direction, rule.policies[0], rule.rule].join(" ");
		const key = [source, destination, protocol, port, by].join(" ");
		const known = this.#denials.get(key);
		const denial = known ?? {
			...{ source, destination, protocol, port, rule, first: time, last: time, noted: 0 },
		};
		denial.last = time;
		denial.noted++;
		this.#denials.delete(key);
		this.#denials.set(key, denial);
		if (this.#denials.size > this.#most) {
			const [oldest] = this.#denials.keys();
			if (oldest !== undefined) this.#denials.delete(oldest);
		}
		return known === undefined ? denial : undefined;
	}

	/** Newest first. */
	list(): Denial[] {
		return [...this.#denials.values()].reverse();
	}
}
