/** Waits of the API client. */
import t from "tap";
import { sleep } from "../../src/kube/clock.js";

t.test("a time that is over is no negative wait", async (t) => {
	const asked: number[] = [];
	const clock = {
		now: () => 0,
		random: () => 0,
		after: (ms: number, run: () => void) => {
			asked.push(ms);
			queueMicrotask(run);
			return { cancel: () => undefined };
		},
	};
	const { signal } = new AbortController();
	for (const ms of [-340, 0, 7]) await sleep(clock, ms, signal);
	t.same(asked, [0, 0, 7]);
});
