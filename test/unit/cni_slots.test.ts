/** Pods that are attached a few at a time. */
import t from "tap";
import { Slots } from "../../src/cni/slots.js";

/** Work that ends when told to. */
class Work {
	readonly #ends: (() => void)[] = [];
	begun = 0;

	run = (): Promise<void> => {
		this.begun++;
		return new Promise((end) => this.#ends.push(end));
	};

	end(): void {
		this.#ends.shift()!();
	}
}

const turn = () => new Promise((go) => setImmediate(go));

t.test("a few at a time, the others in order of request", async (t) => {
	const slots = new Slots(2, 60_000);
	const work = new Work();
	const done: number[] = [];
	const all = [1, 2, 3, 4, 5].map((n) => slots.run(work.run).then(() => done.push(n)));
	await turn();
	t.equal(work.begun, 2);
	work.end();
	await turn();
	t.equal(work.begun, 3, "one ends, one begins");
	t.strictSame(done, [1]);
	for (let i = 0; i < 4; i++) {
		work.end();
		await turn();
	}
	await Promise.all(all);
	t.strictSame(done, [1, 2, 3, 4, 5]);
	await slots.run(async () => undefined);
	t.pass("all are free again");
});

t.test("work that fails frees its slot", async (t) => {
	const slots = new Slots(1, 60_000);
	await t.rejects(
		slots.run(() => Promise.reject(new Error("refused"))),
		/refused/,
	);
	t.equal(await slots.run(async () => "next"), "next");
});

t.test("Pods that wait for their policies keep no others waiting", async (t) => {
	const slots = new Slots(2, 1);
	const work = new Work();
	const waiting = [slots.run(work.run), slots.run(work.run)];
	t.equal(await slots.run(async () => "attached"), "attached");
	work.end();
	work.end();
	await Promise.all(waiting);
	// A slot that was given up is not given back twice.
	const more = [slots.run(work.run), slots.run(work.run), slots.run(work.run)];
	t.equal(work.begun, 4);
	for (let i = 0; i < 3; i++) {
		while (work.begun < 3 + i) await turn();
		work.end();
		await turn();
	}
	await Promise.all(more);
});
