/**
 * Loaded into a process (NODE_OPTIONS=--import=...): records how late its event loop is, and how long its garbage
 * collections stop it, which is part of that. At each SIGUSR2 what was recorded since the last one is written to
 * LAG_DIRECTORY/PID.json, and recording starts over. Plain JavaScript, because it runs where no loader for TypeScript
 * does.
 */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";

const RESOLUTION_MS = 1;
const directory = process.env.LAG_DIRECTORY;

if (directory !== undefined) {
	const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
	histogram.enable();
	/** ms, of young objects and of all. */
	let pauses = { minor: [], major: [] };
	const observer = new PerformanceObserver((list) => {
		for (const { detail, duration } of list.getEntries())
			pauses[detail.kind === constants.NODE_PERFORMANCE_GC_MINOR ? "minor" : "major"].push(
				duration,
			);
	});
	observer.observe({ entryTypes: ["gc"] });
	const lag = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
	const summary = (all) => ({
		count: all.length,
		max: Math.max(0, ...all),
		sum: all.reduce((sum, ms) => sum + ms, 0),
	});
	process.on("SIGUSR2", () => {
		const lags = {
			p50: lag(histogram.percentile(50)),
			p99: lag(histogram.percentile(99)),
			p999: lag(histogram.percentile(99.9)),
			max: lag(histogram.max),
			minor: summary(pauses.minor),
			major: summary(pauses.major),
		};
		histogram.reset();
		pauses = { minor: [], major: [] };
		const file = join(directory, `${process.pid}.json`);
		writeFileSync(`${file}.new`, JSON.stringify(lags));
		renameSync(`${file}.new`, file);
	});
}
