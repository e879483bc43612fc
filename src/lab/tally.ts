/** The arrivals of one numbered stream at one of its ends, and the loss caused by a fault. */
import type { RemoteInfo } from "node:dgram";
import type { Gap, UdpReport } from "./orders.js";

/** How many outages are kept; the longest win. */
const MOST_OUTAGES = 50;

/** Milliseconds of the machine's monotonic clock, which all processes share. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

export class Tally {
	private readonly seen = new Set<number>();
	private readonly senders = new Set<string>();
	private readonly pauses = new Pauses();
	private outages: Gap[] = [];
	private highest = -1;
	private duplicates = 0;
	private late = 0;

	add(number: number, { address, port }: RemoteInfo): void {
		const now = monotonic();
		if (this.seen.has(number)) this.duplicates++;
		if (number < this.highest) this.late++;
		this.seen.add(number);
		this.senders.add(`${address} ${port}`);
		const lost = number - this.highest - 1;
		if (lost > 0 && this.pauses.last !== undefined)
			this.keep({ fromMs: this.pauses.last, toMs: now, lost });
		this.pauses.add(now);
		this.highest = Math.max(this.highest, number);
	}

	get received(): number {
		return this.seen.size;
	}

	report(): UdpReport {
		const missing: number[] = [];
		for (let n = 0; n <= this.highest && missing.length < 100; n++)
			if (!this.seen.has(n)) missing.push(n);
		return {
			received: this.seen.size,
			expected: this.highest + 1,
			missing,
			duplicates: this.duplicates,
			late: this.late,
			senders: [...this.senders],
			longestPauseMs: this.pauses.longestMs,
			outages: [...this.outages].sort((a, b) => a.fromMs - b.fromMs),
		};
	}

	private keep(outage: Gap): void {
		this.outages.push(outage);
		if (this.outages.length <= MOST_OUTAGES) return;
		this.outages.sort((a, b) => b.toMs - b.fromMs - (a.toMs - a.fromMs)).pop();
	}
}

/** The longest time between two arrivals. */
export class Pauses {
	last: number | undefined;
	longestMs = 0;
	/** When the longest one began. */
	longestFromMs = 0;

	add(now: number): void {
		if (this.last !== undefined && now - this.last > this.longestMs) {
			this.longestMs = now - this.last;
			this.longestFromMs = this.last;
		}
		this.last = now;
	}
}
