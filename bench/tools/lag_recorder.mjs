/**
 * Loaded into a process (NODE_OPTIONS=--import=...): records how late its event loop is. At each SIGUSR2
 * the lags since the last one are written to LAG_DIRECTORY/PID.json, and recording starts over. Plain
 * JavaScript, because it runs where no loader for TypeScript does.
 */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 1;
const directory = process.env.LAG_DIRECTORY;

if (directory !== undefined) {
	const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
	histogram.enable();
	const lag = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
	process.on("SIGUSR2", () => {
		const lags = {
			p50: lag(histogram.percentile(50)),
			p99: lag(histogram.percentile(99)),
			p999: lag(histogram.percentile(99.9)),
			max: lag(histogram.max),
		};
		histogram.reset();
		const file = join(directory, `${process.pid}.json`);
		writeFileSync(`${file}.new`, JSON.stringify(lags));
		renameSync(`${file}.new`, file);
	});
}
