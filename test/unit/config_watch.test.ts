import {
	mkdirSync,
	mkdtempSync,
	renameSync,
	rmSync,
	symlinkSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { type ConfigResult, formatConfigError } from "../../src/config/config.js";
import { parseConfig } from "../../src/config/parse.js";
import { watchConfig } from "../../src/config/watch.js";

/** A directory, and the reported changes in order. */
function setUp(t: Test, file: (directory: string) => string, prepare: (directory: string) => void) {
	const directory = mkdtempSync(join(tmpdir(), "fairway-config-"));
	prepare(directory);
	const waiting: ((result: ConfigResult) => void)[] = [];
	const results: ConfigResult[] = [];
	const watch = watchConfig(
		file(directory),
		(result) => {
			const next = waiting.shift();
			if (next) next(result);
			else results.push(result);
		},
		// The poll is far away, so events must suffice.
		{ quietMs: 10, emptyMs: 20, pollMs: 3_600_000 },
	);
	t.teardown(async () => {
		await watch.close();
		rmSync(directory, { recursive: true, force: true });
	});
	const next = async (): Promise<string> => {
		const result =
			results.shift() ?? (await new Promise<ConfigResult>((resolve) => waiting.push(resolve)));
		return "errors" in result
			? result.errors.map((error) => formatConfigError(error).replace(directory, "")).join("\n")
			: `VNI ${result.config.tunnelVNI}`;
	};
	return { directory, next, watch, path: file(directory) };
}

const plain = (directory: string) => join(directory, "fairway.yaml");
const write = (path: string, vni: number | string) => writeFileSync(path, `tunnelVNI: ${vni}\n`);

t.test("written in place, renamed over, removed and made again", async (t) => {
	const { path, next } = setUp(t, plain, (directory) => write(plain(directory), 1));
	write(path, 2);
	t.equal(await next(), "VNI 2");
	write(`${path}.new`, 3);
	renameSync(`${path}.new`, path);
	t.equal(await next(), "VNI 3");
	unlinkSync(path);
	t.match(
		await next(),
		/^\/fairway\.yaml: Cannot read the configuration: ENOENT: no such file or directory$/,
	);
	write(path, 4);
	t.equal(await next(), "VNI 4");
});

t.test("an invalid change is reported once, and so is the next one", async (t) => {
	const { path, next } = setUp(t, plain, (directory) => write(plain(directory), 1));
	write(path, "x");
	t.match(await next(), /^\/fairway\.yaml:1:12: Cannot use tunnelVNI: expected a whole number/);
	// The same mistake, another comment: nothing to report before the next change.
	writeFileSync(path, "tunnelVNI: x # again\n");
	write(path, 1);
	t.equal(await next(), "VNI 1", "back to what was in force");
});

t.test("a change without effect is not reported", async (t) => {
	const { path, next } = setUp(t, plain, (directory) => write(plain(directory), 1));
	writeFileSync(path, "# the same\ntunnelVNI: 1\n");
	write(path, 5);
	t.equal(await next(), "VNI 5");
});

t.test("a file that is briefly empty does not mean the defaults", async (t) => {
	const { path, next, watch } = setUp(t, plain, (directory) => write(plain(directory), 2));
	write(path, 3);
	t.equal(await next(), "VNI 3");
	await watch.now();
	writeFileSync(path, "");
	// The file is read here while it is empty, and then once more.
	const looked = watch.now();
	write(path, 4);
	await looked;
	t.equal(await next(), "VNI 4");
	writeFileSync(path, "");
	t.equal(await next(), "VNI 1", "an empty file that stays is");
});

t.test("replaced through a symlink, like a ConfigMap", async (t) => {
	const version = (directory: string, name: string, vni: number) => {
		mkdirSync(join(directory, name));
		write(join(directory, name, "fairway.yaml"), vni);
	};
	const { directory, next } = setUp(t, plain, (directory) => {
		version(directory, "..1", 1);
		symlinkSync("..1", join(directory, "..data"));
		symlinkSync("..data/fairway.yaml", plain(directory));
	});
	for (const vni of [2, 3]) {
		version(directory, `..${vni}`, vni);
		symlinkSync(`..${vni}`, join(directory, "..tmp"));
		renameSync(join(directory, "..tmp"), join(directory, "..data"));
		t.equal(await next(), `VNI ${vni}`);
		rmSync(join(directory, `..${vni - 1}`), { recursive: true });
	}
});

t.test("the directory is moved away, and another put in its place", async (t) => {
	const file = (directory: string) => join(directory, "etc", "fairway.yaml");
	const { directory, next } = setUp(t, file, (directory) => {
		for (const [name, vni] of [
			["etc", 1],
			["new", 2],
		] as const) {
			mkdirSync(join(directory, name));
			write(join(directory, name, "fairway.yaml"), vni);
		}
	});
	renameSync(join(directory, "etc"), join(directory, "old"));
	t.match(await next(), /ENOENT/);
	renameSync(join(directory, "new"), join(directory, "etc"));
	t.equal(await next(), "VNI 2");
});

t.test("the active configuration may differ from the file", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-config-"));
	write(plain(directory), 7);
	const old = parseConfig("tunnelVNI: 6", "old");
	const result = await new Promise<ConfigResult>((resolve) => {
		const current = "config" in old ? old.config : undefined;
		const watch = watchConfig(plain(directory), resolve, { ...(current && { current }) });
		t.teardown(() => watch.close());
	});
	t.match(result, { config: { tunnelVNI: 7 } });
	rmSync(directory, { recursive: true });
});
