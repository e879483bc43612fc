/**
 * The lag of the event loop: while one synchronous piece runs, no probe is answered
 * and no path is changed.
 *
 * A timer of 20 ms measures it (a finer one costs CPU while nothing happens), so a piece of 20 ms or
 * less may stay unseen, and one of 50 ms shows as 30 to 50 ms. Where other processes have the CPUs
 * the loop is late as well: a lag that the time spent waiting for a CPU explains is no fault of the agent.
 */
import { readFileSync } from "node:fs";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import type { Log } from "../text/log.js";

/** Lags since the last call of `read`, one minute at most, in milliseconds. */
export interface Lag {
	p50Ms: number;
	p99Ms: number;
	p999Ms: number;
	maxMs: number;
	/** Length of this period. */
	seconds: number;
}

const RESOLUTION_MS = 20;
const WARN_MS = 10;
const WARN_PERIOD_MS = 60_000;

export interface LoopLagOptions {
	log: Pick<Log, "info" | "warn">;
	/** Time that this thread has waited for a CPU since its start, ms. Default: as the kernel counts it. */
	cpuWait?: () => number;
	/** Default: the event loop's own. */
	histogram?: Pick<IntervalHistogram, "disable" | "enable" | "max" | "percentile" | "reset">;
}

export class LoopLag {
	readonly #log: LoopLagOptions["log"];
	readonly #histogram: NonNullable<LoopLagOptions["histogram"]>;
	readonly #timer: NodeJS.Timeout;
	readonly #cpuWait: () => number;
	/** `cpuWait` a period ago. */
	#waitedMs: number;
	#since = performance.now();
	/** It is logged that the loop waits for a CPU, and each period since has been late: a busy machine gets one line. */
	#waits = false;
	/** The longest lag since the last warning was due, ms. */
	#maxMs = 0;

	constructor({ log, histogram, cpuWait = readCpuWait }: LoopLagOptions) {
		this.#log = log;
		this.#cpuWait = cpuWait;
		this.#waitedMs = cpuWait();
		this.#histogram = histogram ?? monitorEventLoopDelay({ resolution: RESOLUTION_MS });
		this.#histogram.enable();
		this.#timer = setInterval(() => this.#warn(), WARN_PERIOD_MS).unref();
	}

	/** Returns the lags since the last call. */
	read(): Lag {
		const lag = this.peek();
		this.#maxMs = Math.max(this.#maxMs, lag.maxMs);
		this.#since = performance.now();
		this.#histogram.reset();
		return lag;
	}

	/** The same, without beginning a new period. */
	peek(): Lag {
		const now = performance.now();
		return {
			p50Ms: this.#lag(this.#histogram.percentile(50)),
			p99Ms: this.#lag(this.#histogram.percentile(99)),
			p999Ms: this.#lag(this.#histogram.percentile(99.9)),
			maxMs: this.#lag(this.#histogram.max),
			seconds: Math.round((now - this.#since) / 100) / 10,
		};
	}

	close(): void {
		clearInterval(this.#timer);
		this.#histogram.disable();
	}

	#warn(): void {
		this.read();
		const maxMs = this.#maxMs;
		this.#maxMs = 0;
		const waitedMs = this.#cpuWait();
		const cpuWaitMs = Math.round(waitedMs - this.#waitedMs);
		this.#waitedMs = waitedMs;
		const isLate = maxMs > WARN_MS;
		const isBlocked = maxMs - cpuWaitMs > WARN_MS;
		const waitedBefore = this.#waits;
		this.#waits = isLate && (waitedBefore || !isBlocked);
		if (!isLate) return;
		const fields = { maxMs, cpuWaitMs, withinMs: WARN_PERIOD_MS };
		if (isBlocked) this.#log.warn(fields, "event loop was blocked");
		else if (!waitedBefore) this.#log.info(fields, "event loop waited for a CPU");
	}

	/** @param nanoseconds between two events of the timer; 0 or less: there was none yet */
	#lag(nanoseconds: number): number {
		const late = nanoseconds / 1e6 - RESOLUTION_MS;
		return late > 0 ? Math.round(late * 100) / 100 : 0;
	}
}

/** Second field of /proc/PID/schedstat of the main thread; 0 where the kernel does not count it. */
function readCpuWait(): number {
	try {
		const [, nanoseconds] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(
			" ",
		);
		return Number(nanoseconds) / 1e6;
	} catch {
		return 0;
	}
}
