/** The agent's log: JSON lines on standard output. */
import { type Logger, pino } from "pino";
import type { LogLevel } from "../config/config.js";

export type { Logger };

export function openLog(node: string, level: LogLevel): Logger {
	// Synchronous: the lines before a crash are those that matter.
	const destination = pino.destination({ fd: 1, sync: true });
	// A reader that went away must not take the agent with it.
	destination.on("error", () => undefined);
	return pino(
		{
			level,
			base: { node },
			// Names instead of numbers, for human readers.
			formatters: { level: (label) => ({ level: label }) },
			timestamp: pino.stdTimeFunctions.isoTime,
		},
		destination,
	);
}
