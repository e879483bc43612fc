/** What the agent does about errors that nobody handled. */
import { mock } from "node:test";
import t from "tap";
import { UnhandledErrors } from "../../src/agent/unhandled_errors.js";

function stage(t: { teardown(end: () => void): void }) {
	mock.timers.enable({ apis: ["setTimeout"] });
	t.teardown(() => mock.timers.reset());
	const made = { now: 0, resyncs: 0, exits: 0, lines: [] as string[] };
	const line = (_: object, message?: string) => void made.lines.push(message ?? "");
	const errors = new UnhandledErrors({
		log: { error: line, fatal: line } as never,
		resync: () => made.resyncs++,
		giveUp: () => made.exits++,
		clock: () => made.now,
	});
	const pass = (ms: number) => {
		made.now += ms;
		mock.timers.tick(ms);
	};
	return { made, errors, pass };
}

t.test("errors that come with each resync cause one every ten seconds", async (t) => {
	const { made, errors, pass } = stage(t);
	errors.take("uncaught exception", new Error("boom"));
	t.equal(made.resyncs, 1, "the first at once");
	for (let i = 0; i < 5; i++) errors.take("uncaught exception", new Error("boom"));
	t.equal(made.resyncs, 1);
	pass(9_999);
	t.equal(made.resyncs, 1);
	pass(1);
	t.equal(made.resyncs, 2, "one for all of them");
	pass(60_000);
	t.equal(made.resyncs, 2);
	t.strictSame(made.lines, Array(6).fill("uncaught exception"));
});

t.test("more than twenty within a minute end the agent", async (t) => {
	const { made, errors, pass } = stage(t);
	for (let i = 0; i < 20; i++) errors.take("unhandled rejection", new Error("boom"));
	t.equal(made.exits, 0);
	pass(60_000);
	errors.take("unhandled rejection", new Error("boom"));
	t.equal(made.exits, 0, "not when they are further apart");
	for (let i = 0; i < 20; i++) errors.take("unhandled rejection", new Error("boom"));
	t.equal(made.exits, 1);
	t.equal(made.lines.at(-1), "too many unhandled errors, exiting");
});
