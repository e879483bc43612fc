/** An agent ends in time, whatever its parts do. */
import { EventEmitter } from "node:events";
import t from "tap";
import { stopInTime } from "../../src/cli/stop.js";

function paper() {
	const lines: string[] = [];
	const say = (_: object, message: string) => void lines.push(message);
	return { lines, log: { warn: say, error: say }, signals: new EventEmitter() };
}
const never = () => new Promise<void>(() => undefined);

t.test("a stop that ends is complete", async (t) => {
	const { lines, log, signals } = paper();
	t.equal(await stopInTime(async () => undefined, log, { signals }), true);
	t.same(lines, []);
});

t.test("a stop that hangs ends at its deadline", async (t) => {
	const { lines, log, signals } = paper();
	t.equal(await stopInTime(never, log, { signals, deadlineMs: 1 }), false);
	t.same(lines, ["stopping takes too long; exiting"]);
});

for (const signal of ["SIGTERM", "SIGINT"])
	t.test(`a second signal (${signal}) ends it at once`, async (t) => {
		const { lines, log, signals } = paper();
		const stopped = stopInTime(never, log, { signals });
		signals.emit(signal);
		t.equal(await stopped, false);
		t.same(lines, ["second signal; exiting at once"]);
	});

t.test("a stop that fails is said, and ends", async (t) => {
	const { lines, log, signals } = paper();
	const fail = () => Promise.reject(new Error("no"));
	t.equal(await stopInTime(fail, log, { signals }), false);
	t.same(lines, ["cannot stop cleanly"]);
});
