/** The event loop's lag, from a paper histogram and from a loop that is blocked. */
import { mock } from "node:test";
import t from "tap";
import { LoopLag } from "../../src/observe/loop_lag.js";

class PaperHistogram {
	/** Milliseconds between rings of the timer. */
	gaps: number[] = [];
	enable = () => true;
	disable = () => true;
	reset = () => {
		this.gaps = [];
	};
	get max() {
		return Math.max(0, ...this.gaps) * 1e6;
	}
	percentile(share: number) {
		const sorted = [...this.gaps].sort((a, b) => a - b);
		return (sorted[Math.ceil((share / 100) * sorted.length) - 1] ?? 0) * 1e6;
	}
}

t.test("the lag is what came on top of the timer's period, since the last look", async (t) => {
	const histogram = new PaperHistogram();
	const lag = new LoopLag({ log: { info: () => undefined, warn: () => undefined }, histogram });
	t.teardown(() => lag.close());
	t.match(lag.read(), { p50Ms: 0, p99Ms: 0, p999Ms: 0, maxMs: 0 });
	histogram.gaps = [...Array(98).fill(20.1), 25, 60];
	t.match(lag.read(), { p50Ms: 0.1, p99Ms: 5, p999Ms: 40, maxMs: 40 });
	t.match(lag.read(), { maxMs: 0 }, "begins anew");
});

t.test("a blocked loop is logged once a minute at most", async (t) => {
	mock.timers.enable({ apis: ["setInterval"] });
	t.teardown(() => mock.timers.reset());
	const histogram = new PaperHistogram();
	const lines: object[] = [];
	let waitedMs = 7;
	const lag = new LoopLag({
		log: {
			info: (fields, message) => void lines.push({ level: "info", ...fields, message }),
			warn: (fields, message) => void lines.push({ level: "warn", ...fields, message }),
		},
		histogram,
		cpuWait: () => waitedMs,
	});
	t.teardown(() => lag.close());
	histogram.gaps = [29];
	mock.timers.tick(60_000);
	t.strictSame(lines, [], "10 ms are allowed");
	histogram.gaps = [50];
	lag.read();
	histogram.gaps = [80];
	mock.timers.tick(59_999);
	t.strictSame(lines, []);
	mock.timers.tick(1);
	const blocked = { maxMs: 60, cpuWaitMs: 0, withinMs: 60_000, message: "event loop was blocked" };
	t.strictSame(lines.splice(0), [{ level: "warn", ...blocked }]);
	mock.timers.tick(60_000);
	t.strictSame(lines, [], "once for each time that it was");

	histogram.gaps = [80];
	waitedMs += 49;
	mock.timers.tick(60_000);
	t.strictSame(lines.splice(0), [{ level: "warn", ...blocked, cpuWaitMs: 49 }]);
	histogram.gaps = [80];
	waitedMs += 50;
	mock.timers.tick(60_000);
	const waited = { ...blocked, cpuWaitMs: 50, message: "event loop waited for a CPU" };
	t.strictSame(lines.splice(0), [{ level: "info", ...waited }], "other processes had the CPUs");

	const busy = () => {
		histogram.gaps = [80];
		waitedMs += 50;
		mock.timers.tick(60_000);
	};
	busy();
	busy();
	t.strictSame(lines, [], "one line for as long as the machine is busy");
	mock.timers.tick(60_000);
	busy();
	t.strictSame(lines, [{ level: "info", ...waited }], "and one when it is busy again");
});

t.test("a synchronous piece is seen", async (t) => {
	const lag = new LoopLag({ log: { info: () => undefined, warn: () => undefined } });
	t.teardown(() => lag.close());
	// The timer has to run before the loop is blocked, and once after it.
	const rings = (count: number) =>
		new Promise<void>((done) => {
			const ring = (left: number) => (left === 0 ? done() : setTimeout(ring, 25, left - 1));
			ring(count);
		});
	await rings(2);
	const until = performance.now() + 150;
	while (performance.now() < until);
	await rings(2);
	t.ok(lag.read().maxMs > 100);
});
