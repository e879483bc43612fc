import {
	mkdirSync,
	mkdtempSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	truncateSync,
	unlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Admission } from "../../src/cluster/admission.js";
import { isSettled } from "../../src/cluster/manifest_listing.js";
import { ManifestDirectory, type ManifestDirectoryOptions } from "../../src/cluster/manifests.js";
import { formatProblem, type Snapshot } from "../../src/cluster/snapshot.js";
import { Store } from "../../src/cluster/store.js";

function node(name: string, number: number): string {
	return `apiVersion: v1
kind: Node
metadata: {name: ${name}}
spec: {podCIDR: 10.244.${number}.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.0.${number}}]}
`;
}

/** "a=10.244.1.0/24 ...", by name. */
function nodes({ nodes }: Snapshot): string {
	const texts = [...nodes.values()].map(({ name, podCIDRs }) => `${name}=${podCIDRs}`);
	return texts.sort().join(" ");
}

function temporary(t: Test): string {
	const directory = mkdtempSync(join(tmpdir(), "fairway-manifests-"));
	t.teardown(() => rmSync(directory, { recursive: true, force: true }));
	return directory;
}

/** `until` resolves with the first matching snapshot. */
async function watched(t: Test, directory: string, options: ManifestDirectoryOptions = {}) {
	const waiting = new Set<(snapshot: Snapshot) => void>();
	const store = new Store();
	const admission = new Admission(store);
	const manifests = await ManifestDirectory.open(directory, store, {
		// The poll is far away: events alone must do.
		...{ quietMs: 10, emptyMs: 20, pollMs: 3_600_000 },
		...options,
	});
	const source = {
		get snapshot() {
			return admission.update();
		},
		resync: () => manifests.resync(),
		facts: () => manifests.facts(),
		close: () => manifests.close(),
	};
	store.listen(() => {
		const snapshot = admission.update();
		for (const check of waiting) check(snapshot);
	});
	t.teardown(() => source.close());
	const until = (matches: (snapshot: Snapshot) => boolean): Promise<Snapshot> =>
		new Promise((resolve) => {
			const check = (snapshot: Snapshot) => {
				if (!matches(snapshot)) return;
				waiting.delete(check);
				resolve(snapshot);
			};
			waiting.add(check);
			check(source.snapshot);
		});
	const has = (text: string) => until((snapshot) => nodes(snapshot) === text);
	const problem = (pattern: RegExp) =>
		until(({ problems }) => problems.some((problem) => pattern.test(formatProblem(problem))));
	return { source, until, has, problem };
}

t.test("manifests and other documents", async (t) => {
	const directory = temporary(t);
	const file = (name: string, text: string) => writeFileSync(join(directory, name), text);
	file("a.yaml", node("a", 1));
	file("b.yml", `${node("b", 2)}---\n${node("c", 3)}`);
	file(
		"d.json",
		JSON.stringify({
			apiVersion: "v1",
			kind: "Node",
			metadata: { name: "d" },
			spec: { podCIDR: "10.244.4.0/24" },
		}),
	);
	file("e.yaml~", "[broken");
	file(".f.yaml", "[broken");
	file("README.md", "# hello");
	file("config.yaml", "trafficEncapMode: hybrid");
	mkdirSync(join(directory, "sub"));
	file("sub/g.yaml", node("g", 7));
	const { source } = await watched(t, directory, { ignore: [join(directory, "config.yaml")] });
	t.equal(
		nodes(source.snapshot),
		"a=10.244.1.0/24 b=10.244.2.0/24 c=10.244.3.0/24 d=10.244.4.0/24",
	);
	t.same(source.snapshot.problems, []);
});

t.test("files are added, changed, replaced and removed", async (t) => {
	const directory = temporary(t);
	const { has } = await watched(t, directory);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	await has("a=10.244.1.0/24");
	writeFileSync(join(directory, "a.yaml"), node("a", 2));
	await has("a=10.244.2.0/24");
	writeFileSync(join(directory, "a.tmp"), `${node("a", 3)}---\n${node("b", 4)}`);
	renameSync(join(directory, "a.tmp"), join(directory, "a.yaml"));
	await has("a=10.244.3.0/24 b=10.244.4.0/24");
	unlinkSync(join(directory, "a.yaml"));
	await has("");
});

t.test("an invalid file keeps its last valid content", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	writeFileSync(join(directory, "b.yaml"), node("b", 2));
	const { problem, until, has } = await watched(t, directory);
	writeFileSync(join(directory, "a.yaml"), "kind: Node\n  bad: [");
	let snapshot = await problem(
		/^a\.yaml: Cannot use this manifest: \d+:\d+: expected YAML: .*; what it said before stays in force$/,
	);
	t.equal(nodes(snapshot), "a=10.244.1.0/24 b=10.244.2.0/24");
	writeFileSync(join(directory, "b.yaml"), node("b", 3));
	snapshot = await has("a=10.244.1.0/24 b=10.244.3.0/24");
	t.equal(snapshot.problems.length, 1, "the others go on, and the problem is still told");
	writeFileSync(join(directory, "a.yaml"), Buffer.from([0x61, 0xff]));
	await problem(/expected UTF-8 text/);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	snapshot = await until(({ problems }) => problems.length === 0);
	t.equal(nodes(snapshot), "a=10.244.1.0/24 b=10.244.3.0/24");
});

t.test("files that cannot be manifests are reported by name", async (t) => {
	const directory = temporary(t);
	mkdirSync(join(directory, "directory.yaml"));
	symlinkSync("nowhere", join(directory, "dangling.yaml"));
	writeFileSync(join(directory, "text.yaml"), "hello\n");
	writeFileSync(join(directory, "z.yaml"), node("z", 9));
	const { source } = await watched(t, directory);
	const said = source.snapshot.problems.map(formatProblem);
	t.match(said, [
		/^dangling\.yaml: Cannot use this manifest: ENOENT/,
		/^directory\.yaml: Cannot use this manifest: expected a file/,
		/^text\.yaml: Cannot use this manifest: 1:1: expected a Kubernetes object/,
	]);
	t.equal(said.length, 3);
	t.equal(nodes(source.snapshot), "z=10.244.9.0/24");
});

t.test("a file that is empty for a moment", async (t) => {
	const directory = temporary(t);
	const path = join(directory, "a.yaml");
	writeFileSync(path, node("a", 1));
	const seen: string[] = [];
	const { source, until, has } = await watched(t, directory);
	void until((snapshot) => {
		seen.push(nodes(snapshot));
		return false;
	});
	await source.resync();
	writeFileSync(path, "");
	// The file is read here while it is empty, and then once more.
	const looked = source.resync();
	writeFileSync(path, node("a", 2));
	await looked;
	await has("a=10.244.2.0/24");
	t.same(seen, ["a=10.244.1.0/24", "a=10.244.2.0/24"], "the Node was never gone");
	writeFileSync(path, "");
	await has("");
});

t.test("a ConfigMap: files behind a replaced symlink", async (t) => {
	const directory = temporary(t);
	const version = (number: number) => {
		mkdirSync(join(directory, `..${number}`));
		writeFileSync(join(directory, `..${number}`, "a.yaml"), node("a", number));
		symlinkSync(`..${number}`, join(directory, "..tmp"));
		renameSync(join(directory, "..tmp"), join(directory, "..data"));
	};
	version(1);
	symlinkSync("..data/a.yaml", join(directory, "a.yaml"));
	const { has } = await watched(t, directory);
	await has("a=10.244.1.0/24");
	version(2);
	rmSync(join(directory, "..1"), { recursive: true });
	await has("a=10.244.2.0/24");
	// In place, in the target directory of the symlinks.
	writeFileSync(join(directory, "..2", "a.yaml"), node("a", 5));
	await has("a=10.244.5.0/24");
});

t.test("a symlink to a file elsewhere", async (t) => {
	const [directory, elsewhere] = [temporary(t), temporary(t)];
	writeFileSync(join(elsewhere, "n"), node("a", 1));
	symlinkSync(join(elsewhere, "n"), join(directory, "a.yaml"));
	const { has } = await watched(t, directory);
	writeFileSync(join(elsewhere, "n"), node("a", 2));
	await has("a=10.244.2.0/24");
});

t.test("the directory is missing, created, removed and created again", async (t) => {
	const directory = join(temporary(t), "manifests");
	const { source, has, problem, until } = await watched(t, directory);
	t.match(source.snapshot.problems, [{ message: /Cannot read the manifests in .*ENOENT/ }]);
	mkdirSync(directory);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	await has("a=10.244.1.0/24");
	renameSync(directory, `${directory}.old`);
	t.equal(nodes(await problem(/ENOENT/)), "a=10.244.1.0/24", "what it said stays");
	mkdirSync(directory);
	writeFileSync(join(directory, "a.yaml"), node("a", 2));
	t.same((await has("a=10.244.2.0/24")).problems, []);
	writeFileSync(join(directory, "a.yaml"), node("a", 3));
	await has("a=10.244.3.0/24");
	rmSync(directory, { recursive: true });
	writeFileSync(directory, "a file");
	await until(({ problems }) => problems.length === 1);
	t.equal(nodes(source.snapshot), "a=10.244.3.0/24");
});

t.test("the directory is a symlink that is replaced", async (t) => {
	const parent = temporary(t);
	for (const number of [1, 2]) {
		mkdirSync(join(parent, `v${number}`));
		writeFileSync(join(parent, `v${number}`, "a.yaml"), node("a", number));
	}
	symlinkSync("v1", join(parent, "current"));
	const { has } = await watched(t, join(parent, "current"));
	await has("a=10.244.1.0/24");
	symlinkSync("v2", join(parent, "next"));
	renameSync(join(parent, "next"), join(parent, "current"));
	await has("a=10.244.2.0/24");
});

t.test("resync finds changes without events, and reports nothing without changes", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	const { source, has } = await watched(t, directory, {
		quietMs: 3_600_000,
		patienceMs: 3_600_000,
	});
	const before = source.snapshot;
	await source.resync();
	t.equal(source.snapshot, before, "the very same snapshot");
	writeFileSync(join(directory, "a.yaml"), node("a", 2));
	await source.resync();
	await has("a=10.244.2.0/24");
});

t.test("the message for two conflicting files", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	const { problem, has } = await watched(t, directory);
	writeFileSync(join(directory, "0.yaml"), node("b", 1));
	await problem(
		/^0\.yaml: Cannot accept Node b: expected pod CIDRs of its own, 10\.244\.1\.0\/24 overlaps 10\.244\.1\.0\/24 of Node a$/,
	);
	unlinkSync(join(directory, "a.yaml"));
	await has("b=10.244.1.0/24");
});

const NO_EVENTS = { quietMs: 3_600_000, patienceMs: 3_600_000 };

t.test("a large document is parsed while other files are applied", async (t) => {
	const directory = temporary(t);
	const { source, has, until } = await watched(t, directory, NO_EVENTS);
	const items = [1, 2].map(
		(number) => `- ${node(`large${number}`, number).trim().replaceAll("\n", "\n  ")}`,
	);
	const text = `kind: List\nitems:\n${items.join("\n")}\n# ${"x".repeat(100_000)}\n`;
	writeFileSync(join(directory, "0.yaml"), text);
	writeFileSync(join(directory, "small.yaml"), node("small", 3));
	await source.resync();
	t.equal(nodes(source.snapshot), "small=10.244.3.0/24", "the large one is not waited for");
	await has("large1=10.244.1.0/24 large2=10.244.2.0/24 small=10.244.3.0/24");
	// It changes again, to invalid content.
	writeFileSync(join(directory, "0.yaml"), text.replace("10.244.2", "10.244.9"));
	await source.resync();
	await has("large1=10.244.1.0/24 large2=10.244.9.0/24 small=10.244.3.0/24");
	writeFileSync(join(directory, "0.yaml"), `${text}bad: [`);
	await source.resync();
	await until(({ problems }) => problems.length === 1);
	t.match(source.snapshot.problems, [{ file: "0.yaml", message: /\d+:\d+: expected YAML/ }]);
	t.equal(nodes(source.snapshot), "large1=10.244.1.0/24 large2=10.244.9.0/24 small=10.244.3.0/24");
});

t.test("a start waits for a large document", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), `${node("a", 1)}# ${"x".repeat(100_000)}\n`);
	const { source } = await watched(t, directory, { largeMs: 600_000 });
	t.equal(nodes(source.snapshot), "a=10.244.1.0/24");
});

t.test("a file that is too large is refused by name", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	truncateSync(join(directory, "a.yaml"), (64 << 20) + 1);
	const { source } = await watched(t, directory);
	t.same(source.snapshot.problems.map(formatProblem), [
		"a.yaml: Cannot use this manifest: expected at most 67108864 bytes, got 67108865",
	]);
});

t.test("the poll finds changes without events, of many files in turn", async (t) => {
	const directory = temporary(t);
	const file = (number: number) => join(directory, `${number}.yaml`);
	for (let number = 1; number <= 600; number++) writeFileSync(file(number), "");
	const { has } = await watched(t, directory, { ...NO_EVENTS, pollMs: 10 });
	writeFileSync(file(1), node("a", 1));
	await has("a=10.244.1.0/24");
	writeFileSync(file(600), node("b", 2));
	await has("a=10.244.1.0/24 b=10.244.2.0/24");
	writeFileSync(file(601), node("c", 3));
	await has("a=10.244.1.0/24 b=10.244.2.0/24 c=10.244.3.0/24");
	unlinkSync(file(1));
	await has("b=10.244.2.0/24 c=10.244.3.0/24");
});

t.test("a file whose times lie in the future is read once they have stayed the same", async (t) => {
	const path = join(temporary(t), "a.yaml");
	writeFileSync(path, node("a", 1));
	utimesSync(path, new Date(), new Date(Date.now() + 3_600_000));
	const stats = statSync(path, { bigint: true });
	t.notOk(isSettled(stats, 0));
	t.ok(isSettled(stats, 1000));
});

t.test("files that become empty together count together", async (t) => {
	const directory = temporary(t);
	for (let number = 1; number <= 50; number++)
		writeFileSync(join(directory, `${number}.yaml`), node(`n${number}`, number));
	const { source } = await watched(t, directory, { ...NO_EVENTS, emptyMs: 200 });
	t.equal(source.snapshot.nodes.size, 50);
	for (let number = 1; number <= 50; number++) writeFileSync(join(directory, `${number}.yaml`), "");
	const began = performance.now();
	await source.resync();
	t.equal(source.snapshot.nodes.size, 0);
	t.ok(performance.now() - began < 50 * 200, "not one after another");
});

t.test("all Nodes are known when each file was understood once", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	writeFileSync(join(directory, "b.yaml"), "[");
	const { source, until } = await watched(t, directory);
	t.notOk(source.snapshot.synced);
	for (const facts of source.facts())
		t.match(facts, { synced: false, missing: "b.yaml cannot be read" }, "the file is named");
	writeFileSync(join(directory, "b.yaml"), node("b", 2));
	await until(({ synced }) => synced);
	t.ok(source.facts().every(({ missing }) => missing === undefined));
	writeFileSync(join(directory, "b.yaml"), "[");
	const { synced } = await until(({ problems }) => problems.length > 0);
	t.ok(synced, "what it said is known");
	writeFileSync(join(directory, "c.yaml"), "[");
	await until(({ synced }) => !synced);
	unlinkSync(join(directory, "c.yaml"));
	await until(({ synced }) => synced);
});

t.test("a file without any Kubernetes object is a problem, and hides nothing", async (t) => {
	const directory = temporary(t);
	writeFileSync(join(directory, "a.yaml"), node("a", 1));
	writeFileSync(join(directory, "config.yaml"), "trafficEncapMode: hybrid\n");
	const { source, until } = await watched(t, directory);
	t.ok(source.snapshot.synced);
	t.match(source.snapshot.problems, [
		{ file: "config.yaml", message: /got a mapping without one$/ },
	]);
	writeFileSync(join(directory, "config.yaml"), "apiVersion: networking.k8s.io/v1\nmetadata: {}\n");
	t.ok((await until(({ problems }) => problems.length > 0)).synced, "it said nothing before");
	writeFileSync(join(directory, "b.yaml"), "apiVersion: networking.k8s.io/v1\nmetadata: {}\n");
	await until(({ synced }) => !synced);
});

t.test("all Services are known although some cannot be used, as from the API", async (t) => {
	const directory = temporary(t);
	const object = (apiVersion: string, kind: string) =>
		JSON.stringify({ apiVersion, kind, metadata: { name: "a" }, spec: "none" });
	writeFileSync(join(directory, "service.json"), object("v1", "Service"));
	writeFileSync(join(directory, "slice.json"), object("discovery.k8s.io/v1", "EndpointSlice"));
	writeFileSync(join(directory, "cidr.json"), object("networking.k8s.io/v1", "ServiceCIDR"));
	writeFileSync(join(directory, "pod.json"), object("v1", "Pod"));
	const { source, until } = await watched(t, directory);
	const problems = source.snapshot.problems.map(formatProblem);
	t.match(problems.join("\n"), /Cannot accept Service default\/a: expected a mapping as spec/);
	t.ok(source.snapshot.catalog.isSynced);
	t.ok(source.facts().every(({ synced }) => synced));
	writeFileSync(join(directory, "other.yaml"), "[");
	await until(({ catalog }) => !catalog.isSynced);
	unlinkSync(join(directory, "other.yaml"));
	await until(({ catalog }) => catalog.isSynced);
});
