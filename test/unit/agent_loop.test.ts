import t from "tap";
import { Loop, type LoopOptions } from "../../src/agent/loop.js";

/** A loop whose applies end when the test decides. */
function harness(options: Partial<LoopOptions> = {}) {
	const state = { running: 0, most: 0, begun: 0, retries: [] as number[], errors: [] as string[] };
	const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
	const arrivals: (() => void)[] = [];
	const loop = new Loop({
		settleMs: 1,
		waitMaxMs: 5,
		retryMinMs: 1,
		retryMaxMs: 4,
		apply: async () => {
			state.begun++;
			state.running++;
			state.most = Math.max(state.most, state.running);
			for (const arrive of arrivals.splice(0)) arrive();
			try {
				await new Promise<void>((resolve, reject) => ends.push({ resolve, reject }));
			} finally {
				state.running--;
			}
		},
		onError: (error, retryMs) => {
			state.errors.push((error as Error).message);
			state.retries.push(retryMs);
		},
		...options,
	});
	/** Resolves when an apply is running. */
	const begun = async () => {
		if (ends.length === 0) await new Promise<void>((resolve) => arrivals.push(resolve));
	};
	const end = async (error?: Error) => {
		await begun();
		const [one] = ends.splice(0, 1);
		if (error === undefined) one?.resolve();
		else one?.reject(error);
	};
	return { loop, state, begun, end };
}

t.test("a burst of changes is one apply", async (t) => {
	const { loop, state, end } = harness();
	for (let i = 0; i < 100; i++) loop.request();
	t.equal(state.begun, 0, "a request itself does nothing");
	await end();
	await loop.stop();
	t.equal(state.begun, 1);
});

t.test("endless changes are applied nevertheless", async (t) => {
	const { loop, begun, end } = harness({ settleMs: 1_000_000, waitMaxMs: 20 });
	const restless = setInterval(() => loop.request(), 1);
	t.teardown(() => clearInterval(restless));
	loop.request();
	await begun();
	clearInterval(restless);
	await end();
	await loop.stop();
});

t.test("one apply at a time, and one more for changes in the meantime", async (t) => {
	const { loop, state, begun, end } = harness();
	loop.request();
	await begun();
	loop.request();
	loop.request();
	const flushed = loop.flush();
	t.equal(state.begun, 1, "nothing begins while one runs");
	await end();
	await end();
	await flushed;
	await loop.stop();
	t.strictSame(state, { running: 0, most: 1, begun: 2, retries: [], errors: [] });
});

t.test("flush resolves with an apply that began after it, not before", async (t) => {
	const { loop, state, begun, end } = harness();
	loop.request();
	await begun();
	let done = false;
	const flushed = loop.flush().then(() => {
		done = true;
	});
	await end();
	await begun();
	t.equal(done, false, "the apply that was running may have missed the change");
	await end();
	await flushed;
	t.equal(state.begun, 2);
	await loop.stop();
});

t.test("a failed apply is retried with growing delays until it succeeds", async (t) => {
	const { loop, state, begun, end } = harness();
	const flushed = loop.flush();
	await end(new Error("no"));
	await t.rejects(flushed, { message: "no" });
	await end(new Error("no"));
	await end(new Error("no"));
	await end(new Error("still no"));
	await end();
	t.strictSame(state.retries, [1, 2, 4, 4]);
	t.equal(state.errors.at(-1), "still no");

	loop.request();
	await begun();
	await end(new Error("again"));
	await end();
	t.strictSame(state.retries.at(-1), 1, "success forgets the failures before");
	await loop.stop();
});

t.test("a change does not wait for the retry", async (t) => {
	const { loop, state, end } = harness({ retryMinMs: 1_000_000, retryMaxMs: 1_000_000 });
	loop.request();
	await end(new Error("no"));
	await t.resolves(Promise.all([loop.flush(), end()]));
	t.equal(state.begun, 2);
	await loop.stop();
});

t.test("stop waits for the current apply and starts no other", async (t) => {
	const { loop, state, begun, end } = harness();
	loop.request();
	await begun();
	const late = loop.flush();
	const stopped = loop.stop();
	await end();
	await stopped;
	await t.rejects(late, { message: /stopping/ });
	await t.rejects(loop.flush(), { message: /stopping/ });
	loop.request();
	t.equal(state.begun, 1);
	t.equal(state.running, 0);
});
