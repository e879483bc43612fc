import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { installCommand } from "../../src/cli/install.js";
import { installPlugins } from "../../src/install/plugins.js";

function directories(t: Test) {
	const base = t.testdir();
	const [from, to] = [join(base, "image"), join(base, "node")];
	for (const directory of [from, to]) mkdirSync(directory);
	for (const name of ["fairway-cni", "loopback", "portmap"]) program(join(from, name), "new");
	return { from, to };
}

function program(path: string, content: string): void {
	writeFileSync(path, content);
	chmodSync(path, 0o755);
}

t.test("a Node without plugins gets all three, as programs", async (t) => {
	const { from, to } = directories(t);
	t.same(installPlugins(from, to), { installed: ["fairway-cni", "loopback", "portmap"], kept: [] });
	t.same(readdirSync(to), ["fairway-cni", "loopback", "portmap"]);
	for (const name of readdirSync(to)) t.equal(statSync(join(to, name)).mode & 0o777, 0o755);
	t.same(installPlugins(from, to), { installed: [], kept: ["fairway-cni", "loopback", "portmap"] });
});

t.test(
	"the Node's own reference plugins are kept, and one that cannot run is replaced",
	async (t) => {
		const { from, to } = directories(t);
		program(join(to, "loopback"), "the Node's");
		writeFileSync(join(to, "portmap"), "half a file", { mode: 0o644 });
		program(join(to, "fairway-cni"), "old");
		t.same(installPlugins(from, to), { installed: ["fairway-cni", "portmap"], kept: ["loopback"] });
		t.equal(readFileSync(join(to, "loopback"), "utf8"), "the Node's");
		t.equal(readFileSync(join(to, "fairway-cni"), "utf8"), "new");
	},
);

t.test("a plugin that runs keeps its file, since a new one is renamed over it", async (t) => {
	const { from, to } = directories(t);
	const target = join(to, "fairway-cni");
	program(target, "old");
	const before = statSync(target).ino;
	installPlugins(from, to);
	t.not(statSync(target).ino, before);
	program(join(to, ".fairway-portmap.new"), "of an interrupted copy");
	installPlugins(from, to);
	t.same(readdirSync(to), ["fairway-cni", "loopback", "portmap"]);
});

t.test(
	"a directory that is not there, or an image without plugins, is an error by name",
	async (t) => {
		const { from, to } = directories(t);
		t.throws(() => installPlugins(from, join(to, "none")), {
			message: /^Cannot install CNI plugins in \S+none: ENOENT/,
		});
		t.throws(() => installPlugins(join(from, "none"), to), { message: /fairway-cni/ });
		t.notOk(existsSync(join(to, "fairway-cni")));
		await t.rejects(installCommand({}), { message: /expected --cni-bin-dir or --bpffs/ });
	},
);
