import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import t from "tap";
import { PathEvents } from "../../src/observe/path_events.js";
import { PathMemory, type PathRecords } from "../../src/observe/path_memory.js";

const directory = mkdtempSync(join(tmpdir(), "fairway-memory-"));
t.teardown(() => rmSync(directory, { recursive: true }));

const records: Omit<PathRecords, "version"> = {
	ages: { "n2/4": { path: "direct", since: 5, changes: 2 } },
	holds: { "n2/4": 10_000 },
	events: [
		{
			time: "1970-01-01T00:00:00.005Z",
			node: "n2",
			family: 4,
			from: "geneve",
			to: "direct",
			mtu: 1500,
			reason: "So.",
		},
	],
};
const now = { ...records, ages: Object.entries(records.ages) };
const nothing: PathRecords = { version: 1, ages: {}, holds: {}, events: [] };
/** Turns of the event loop, until this is so. */
async function until(condition: () => boolean): Promise<void> {
	while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
const fail = (error: unknown) => {
	throw error;
};

t.test("written records are read back", async (t) => {
	const file = join(directory, "made", "paths.json");
	new PathMemory(file, () => now, fail).write();
	t.same(PathMemory.read(file), { version: 1, ...records });
	t.notOk(existsSync(`${file}.new`), "replaced as a whole");
	const events = new PathEvents(99, PathMemory.read(file));
	t.match(events.age("n2", 4), { since: 5, changes: 2 });
	t.match(events.age("n2", 6), { since: 99, changes: 0 });
	t.same(events.records(), { ages: new Map(now.ages), events: records.events });
});

t.test("an unreadable file counts as missing", async (t) => {
	const file = join(directory, "odd.json");
	t.same(PathMemory.read(join(directory, "absent.json")), nothing);
	t.same(PathMemory.read(directory), nothing, "a directory");
	for (const text of [
		"",
		"{",
		"null",
		"[]",
		"7",
		'"x"',
		'{"version":2,"holds":{"n2/4":1}}',
		"{}",
	]) {
		writeFileSync(file, text);
		t.same(PathMemory.read(file), nothing, text);
	}
	writeFileSync(file, '{"version":1,"holds":{"n2/4":7}}');
	t.same(PathMemory.read(file), { ...nothing, holds: { "n2/4": 7 } }, "what it has of it");
	for (const odd of [
		'"ages":7',
		'"ages":null',
		'"events":{}',
		'"events":null',
		'"holds":[]',
		'"holds":null',
	]) {
		writeFileSync(file, `{"version":1,${odd}}`);
		t.same(PathMemory.read(file), nothing, odd);
	}
});

t.test("many changes are combined into one write", async (t) => {
	mock.timers.enable({ apis: ["setTimeout"] });
	t.teardown(() => mock.timers.reset());
	const file = join(directory, "soon.json");
	let collected = 0;
	const memory = new PathMemory(file, () => ({ ...now, holds: { "n3/6": ++collected } }), fail);
	for (let i = 0; i < 100; i++) memory.changed();
	t.notOk(existsSync(file));
	mock.timers.tick(1000);
	await until(() => existsSync(file));
	t.same(PathMemory.read(file).holds, { "n3/6": 1 });
	mock.timers.tick(10_000);
	t.equal(collected, 1);
	memory.changed();
	memory.write();
	mock.timers.tick(10_000);
	t.equal(collected, 2, "what was written early is not written again");
});

t.test("many records leave the event loop to others, and the last write wins", async (t) => {
	const file = join(directory, "many.json");
	const age = { path: "direct" as const, since: 5, changes: 2 };
	let turns = 0;
	let ended = false;
	const ages = function* (): Generator<[string, typeof age]> {
		for (let i = 0; i < 10_000; i++) {
			// As slow as a busy machine.
			const until = performance.now() + (i % 100 === 0 ? 1 : 0);
			while (performance.now() < until);
			yield [`n${i}/4`, age];
		}
		ended = true;
	};
	let last = false;
	const memory = new PathMemory(file, () => (last ? now : { ...now, ages: ages() }), fail);
	const saved = memory.save();
	await until(() => {
		turns++;
		return ended;
	});
	t.ok(turns > 3, `${turns} turns`);
	last = true;
	memory.write();
	await saved;
	t.same(PathMemory.read(file), { version: 1, ...records });
	t.same(
		readdirSync(directory).filter((name) => name.startsWith("many")),
		["many.json"],
	);
});

t.test("a failed write is reported and has no other effect", async (t) => {
	const errors: unknown[] = [];
	const occupied = join(directory, "occupied");
	mkdirSync(join(occupied, "paths.json"), { recursive: true });
	const memory = new PathMemory(
		join(occupied, "paths.json"),
		() => now,
		(error) => errors.push(error),
	);
	memory.write();
	t.match(errors, [{ code: /EISDIR|ENOTEMPTY|EEXIST/ }]);
	writeFileSync(join(directory, "plain"), "");
	new PathMemory(
		join(directory, "plain", "paths.json"),
		() => now,
		(error) => errors.push(error),
	).write();
	t.equal(errors.length, 2);
	t.equal(readFileSync(join(directory, "plain"), "utf8"), "");
});
