/**
 * The agent's log: JSON lines on standard output, written outside of the event loop, so that a
 * reader that has stopped reading stops no failover.
 */
import { type Logger, pino } from "pino";
import type { LogLevel } from "../config/config.js";

export type { Logger };

/** Bytes that wait for the reader; lines beyond that are dropped, and counted. */
const WAITING_MAX = 4 * 1024 * 1024;

export interface LogOptions {
	/** Default: standard output. */
	fd?: number;
	/** Bytes; default 4 MiB. */
	waitingMax?: number;
}

export function openLog(node: string, level: LogLevel, options: LogOptions = {}): Logger {
	const { fd = 1, waitingMax = WAITING_MAX } = options;
	// Each line leaves at once, or with those that came while the one before was being written.
	// pino writes buffered lines synchronously after a fatal line and when the process exits.
	const destination = pino.destination({ fd, sync: false, minLength: 0, maxLength: waitingMax });
	// A reader that went away must not take the agent with it.
	destination.on("error", () => undefined);
	let dropped = 0;
	destination.on("drop", () => dropped++);
	const log = pino(
		{
			level,
			base: { node },
			// Names instead of numbers, for human readers.
			formatters: { level: (label) => ({ level: label }) },
			timestamp: pino.stdTimeFunctions.isoTime,
		},
		destination,
	);
	destination.on("drain", () => {
		if (dropped === 0) return;
		const lines = dropped;
		dropped = 0;
		log.warn({ lines }, "log lines dropped, the reader was too slow");
	});
	return log;
}
