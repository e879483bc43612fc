/** Ring buffers on the event loop: delivery, bursts, closing at every moment, errors, process end. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import t from "tap";
import { RingBuffer } from "#native";
import { bpfDescriptors, collectGarbage, frame, loadObject } from "./fixture.js";

/** A fresh ring map, and a program that writes 0, 1, 2, ... into it. */
function source() {
	const object = loadObject();
	const map = object.map("ring");
	const program = object.program("emit");
	object.close();
	return { map, emit: (count: number) => void program.testRun({ data: frame(), repeat: count }) };
}

/** Reads until `count` records are there, then closes. */
function read(map: ReturnType<typeof source>["map"], count: number, burst?: number) {
	return new Promise<number[]>((resolve) => {
		const records: number[] = [];
		const ring = new RingBuffer(
			map,
			(record) => {
				records.push(Number(record.readBigUInt64LE()));
				if (records.length < count) return;
				ring.close();
				resolve(records);
			},
			burst === undefined ? {} : { burst },
		);
	});
}

const sequence = (from: number, to: number) =>
	Array.from({ length: to - from }, (_, index) => from + index);

t.test("records come in order, whatever the burst", async (t) => {
	for (const burst of [undefined, 1, 7, 1000]) {
		const { map, emit } = source();
		const all = read(map, 300, burst);
		emit(300);
		t.same(await all, sequence(0, 300), `burst ${burst}`);
	}
});

t.test("records that were there before", async (t) => {
	const { map, emit } = source();
	emit(5);
	t.same(await read(map, 5), sequence(0, 5));
});

t.test("a record is a copy", async (t) => {
	const { map, emit } = source();
	const kept: Buffer[] = [];
	await new Promise<void>((resolve) => {
		const ring = new RingBuffer(map, (record) => {
			kept.push(record);
			if (kept.length < 10_000) {
				// Goes round the 64 KiB ring more than twice.
				if (kept.length % 100 === 0) emit(100);
				return;
			}
			ring.close();
			resolve();
		});
		emit(100);
	});
	t.same(
		kept.map((record) => Number(record.readBigUInt64LE())),
		sequence(0, 10_000),
	);
});

t.test("at most a burst in a turn of the loop", async (t) => {
	const { map, emit } = source();
	emit(100);
	let turn = 0;
	let waiting = true;
	const next = () => {
		turn++;
		if (waiting) setImmediate(next);
	};
	setImmediate(next);
	const perTurn = new Map<number, number>();
	let left = 100;
	await new Promise<void>((resolve) => {
		const ring = new RingBuffer(
			map,
			() => {
				perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
				if (--left > 0) return;
				ring.close();
				resolve();
			},
			{ burst: 10 },
		);
	});
	waiting = false;
	t.equal(perTurn.size, 10);
	t.same(new Set(perTurn.values()), new Set([10]));
});

t.test("close inside the callback, with records pending", async (t) => {
	const { map, emit } = source();
	emit(10);
	t.same(await read(map, 3), [0, 1, 2]);
	t.same(await read(map, 7), sequence(3, 10), "the rest stays for the next reader");
});

t.test("close before the loop comes round", async (t) => {
	const { map, emit } = source();
	const ring = new RingBuffer(map, () => t.fail("called after close"));
	emit(5);
	ring.close();
	ring.close();
	ring.ref().unref();
	t.same(await read(map, 5), sequence(0, 5));
});

t.test("the map may be closed first", async (t) => {
	const { map, emit } = source();
	const all = read(map, 5);
	map.close();
	emit(5);
	t.same(await all, sequence(0, 5));
});

t.test("a ring without references is still read", async (t) => {
	const { map, emit } = source();
	const all = read(map, 5);
	await collectGarbage();
	emit(5);
	t.same(await all, sequence(0, 5));
});

t.test("close gives back the descriptors and the memory", async (t) => {
	const { map } = source();
	const before = bpfDescriptors().length;
	for (let round = 0; round < 50; round++) new RingBuffer(map, () => {}).close();
	t.equal(bpfDescriptors().length, before);
});

t.test("what keeps a process alive and what does not", async (t) => {
	const child = fileURLToPath(new URL("inside/ring.ts", import.meta.url));
	for (const [what, output, status] of [
		["open", "received 3\n", 0],
		["closed", "ends\n", 0],
		["unref", "ends\n", 0],
		["exit", "exits\n", 0],
		["throw", "caught boom 0\ncaught boom 1\ncaught boom 2\n", 0],
		["uncaught", "", 1],
		["worker-exit", "worker ended with 0\n", 0],
		["worker-terminate", "worker ended with 1\n", 0],
	] as const) {
		const run = spawnSync(process.execPath, ["--import=tsx", child, what], {
			encoding: "utf8",
			timeout: 60_000,
		});
		t.equal(run.signal, null, what);
		t.equal(run.status, status, what);
		t.equal(run.stdout, output, what);
		if (what === "uncaught") t.match(run.stderr, "Error: boom");
	}
});
