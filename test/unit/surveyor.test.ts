/** Surveys of `fairway check`, with a clock and a network of paper. */
import { mock } from "node:test";
import t from "tap";
import type { ProbedPeer } from "../../src/compile/compile.js";
import type { SurveyCell } from "../../src/probe/survey/survey.js";
import { Surveyor } from "../../src/probe/survey/surveyor.js";
import { choice } from "../tools/paper_peer.js";

function peer(number: number): ProbedPeer {
	return {
		...{ index: number * 2, node: `n${number}`, family: 4, candidate: true },
		...{ source: "10.244.255.1", destination: `10.244.0.${number}` },
		...{ direct: choice("direct", 1500), tunnel: choice("geneve", 1450) },
		lacks: { direct: "", tunnel: "" },
	};
}

/** Combinations of ways and sizes, each five times. */
const PROBES = 8 * 5;

function stage(t: { teardown(end: () => void): void }) {
	mock.timers.enable({ apis: ["setTimeout"] });
	let now = 0;
	const sent: { at: number; node: string; sequence: number }[] = [];
	const surveyor = new Surveyor(
		({ node }, { sequence }) => {
			sent.push({ at: now, node, sequence });
		},
		() => now,
	);
	t.teardown(() => {
		surveyor.close();
		mock.timers.reset();
	});
	const run = (ms: number) => {
		for (const until = now + ms; now < until; ) {
			now++;
			mock.timers.tick(1);
		}
	};
	const count = (node: string) => sent.filter((one) => one.node === node).length;
	return { sent, surveyor, run, count };
}

t.test("who asks for a peer that is being surveyed joins", async (t) => {
	const { surveyor, run, sent } = stage(t);
	const first = surveyor.ask(peer(2));
	run(100);
	const second = surveyor.ask(peer(2));
	surveyor.answered(sent[0]!.sequence, 0.5);
	run(2000);
	const [a, b] = await Promise.all([first, second]);
	t.equal(a, b, "one survey");
	t.equal(sent.length, PROBES);
	t.match(a[0], { asked: 5, answered: 1, roundTripMs: 0.5 });
	const third = surveyor.ask(peer(2));
	run(2000);
	t.not(await third, a, "after its end another one");
	t.equal(sent.length, 2 * PROBES);
});

t.test("ten thousand paths keep to the budget of probes", async (t) => {
	const { surveyor, run, sent } = stage(t);
	const surveys = Array.from({ length: 1000 }, (_, i) => surveyor.ask(peer(i)));
	t.strictSame(surveyor.progress, { done: 0, total: 1000 });
	run(10_000);
	t.ok(Math.abs(sent.length - 20_000) < 100, `2,000 a second, sent ${sent.length} in ten`);
	const turns = new Map<number, number>();
	for (const { at } of sent) turns.set(at, (turns.get(at) ?? 0) + 1);
	t.ok(Math.max(...turns.values()) <= 32, "without bursts");
	const { done } = surveyor.progress;
	t.ok(done > 400 && done < 500, `${done} are done after ten seconds`);
	run(12_000);
	const cells: SurveyCell[][] = await Promise.all(surveys);
	t.ok(
		cells.flat().every(({ asked }) => asked === 5),
		"each combination was probed as often",
	);
	t.strictSame(surveyor.progress, { done: 1000, total: 1000 });
});

t.test("a peer is left alone when its last client goes", async (t) => {
	const { surveyor, run, count } = stage(t);
	const [one, other] = [new AbortController(), new AbortController()];
	const gone = surveyor.ask(peer(2), one.signal);
	const joined = surveyor.ask(peer(2), other.signal);
	const stays = surveyor.ask(peer(3));
	run(70);
	one.abort(new Error("gone"));
	await t.rejects(gone, { message: "gone" });
	run(60);
	const before = count("n2");
	t.ok(before > 16 && before < PROBES, "another one still waits for it");
	other.abort(new Error("gone too"));
	await t.rejects(joined, { message: "gone too" });
	run(2000);
	t.equal(count("n2"), before);
	await stays;
	t.equal(count("n3"), PROBES);
	await t.rejects(surveyor.ask(peer(4), one.signal), { message: "gone" });
	run(2000);
	t.equal(count("n4"), 0);
});
