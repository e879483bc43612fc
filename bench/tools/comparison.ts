/** Compares several ways: every round measures each of them once, in changing order. */
import { setTimeout as delay } from "node:timers/promises";
import type { Generator, Run, Stream } from "./pktgen.js";
import { ratios, type Spread, shownSpread, spread } from "./statistics.js";

/** Shown for a way that is not in the comparison. */
const ABSENT = "–";
/** How often a run is repeated that another CPU took part in. */
const REPEATS = 5;

export class Comparison {
	private readonly streams = new Map<string, Stream>();
	private readonly runs = new Map<string, Run[]>();
	private readonly pktgen: Generator;
	private readonly rounds: number;
	private readonly frames: number;
	private readonly pauseMs: number;

	/** @param pauseMs before each round, in which flows of the one before may expire. */
	constructor(pktgen: Generator, rounds: number, frames: number, pauseMs = 0) {
		this.pktgen = pktgen;
		this.rounds = rounds;
		this.frames = frames;
		this.pauseMs = pauseMs;
	}

	add(name: string, stream: Stream): void {
		this.streams.set(name, stream);
		this.runs.set(name, []);
	}

	/**
	 * A short run before each measured one warms caches and neighbour entries. With few flows it uses
	 * each of them at least once: at this rate none would be cold.
	 */
	async run(): Promise<void> {
		const all = [...this.streams];
		for (let round = 0; round < this.rounds; round++) {
			if (this.pauseMs > 0) await delay(this.pauseMs);
			for (const [name, stream] of round % 2 === 0 ? all : all.toReversed()) {
				await this.pktgen.run(stream, this.warmUp(stream));
				this.runs.get(name)?.push(await this.measure(stream));
			}
		}
	}

	/**
	 * A device's queue is polled by the CPU that found it empty. Where that was another one, with a packet of
	 * an agent, it goes on while the generator fills the queue, and most frames find no room: such a run says
	 * nothing, and is measured again.
	 */
	private async measure(stream: Stream): Promise<Run> {
		let run = await this.pktgen.run(stream, this.frames);
		for (let repeat = 0; run.elsewhere > 0 && repeat < REPEATS; repeat++) {
			if (this.pauseMs > 0) await delay(this.pauseMs);
			run = await this.pktgen.run(stream, this.frames);
		}
		return run;
	}

	private warmUp({ vary }: Stream): number {
		const flows = vary?.flows ?? 1;
		return Math.max(64, this.frames >> 3, flows <= this.frames ? flows : 0);
	}

	cpu(name: string): string {
		return this.runs.has(name) ? shownSpread(this.cpuSpread(name)) : ABSENT;
	}

	cpuSpread(name: string): Spread {
		return spread((this.runs.get(name) ?? []).map(({ cpuPerPacket }) => cpuPerPacket));
	}

	/** CPU time per packet sent, whether or not it arrived. */
	cpuSent(name: string): string {
		const runs = this.runs.get(name);
		return runs === undefined ? ABSENT : shownSpread(spread(runs.map((run) => run.cpu / run.sent)));
	}

	/** The same, paired by round. */
	sentRatio(name: string, other: string): string {
		const [runs, others] = [this.runs.get(name), this.runs.get(other)];
		if (runs === undefined || others === undefined) return ABSENT;
		const cpu = (all: Run[]) => all.map((run) => run.cpu / run.sent);
		return shownSpread(ratios(cpu(runs), cpu(others)), 2);
	}

	/** Ratio of CPU times, paired by round. */
	ratio(name: string, other: string): string {
		const [runs, others] = [this.runs.get(name), this.runs.get(other)];
		if (runs === undefined || others === undefined) return ABSENT;
		const cpu = (all: Run[]) => all.map(({ cpuPerPacket }) => cpuPerPacket);
		return shownSpread(ratios(cpu(runs), cpu(others)), 2);
	}

	/** Million packets a second. */
	rate(name: string): string {
		const runs = this.runs.get(name);
		if (runs === undefined) return ABSENT;
		return (spread(runs.map((run) => run.packetsPerSecond)).median / 1e6).toFixed(2);
	}

	delivered(name: string): string {
		const runs = this.runs.get(name);
		if (runs === undefined) return ABSENT;
		const sum = (what: "sent" | "received") => runs.reduce((all, run) => all + run[what], 0);
		const share = (100 * sum("received")) / sum("sent");
		// Rounded down, so that 100 % means all.
		return `${Math.floor(share * 10) / 10} %`;
	}

	data(): Record<string, { cpuPerPacket: number[]; cpuPerSent: number[]; delivered: number[] }> {
		return Object.fromEntries(
			[...this.runs].map(([name, runs]) => [
				name,
				{
					cpuPerPacket: runs.map(({ cpuPerPacket }) => Math.round(cpuPerPacket * 10) / 10),
					cpuPerSent: runs.map(({ cpu, sent }) => Math.round((10 * cpu) / sent) / 10),
					delivered: runs.map(({ sent, received }) => received / sent),
				},
			]),
		);
	}
}
