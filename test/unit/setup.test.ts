import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import t from "tap";
import { dependenciesInstalled } from "../../scripts/build.mjs";
import { goRefusal } from "../../scripts/kubernetes.mjs";
import { kernelRefusal, missingFrom } from "../../scripts/machine.mjs";

const script = (name: string): string => resolve(import.meta.dirname, "../../scripts", name);

t.test("an unsuitable kernel is refused in one sentence", async (t) => {
	const good = {
		platform: "linux",
		version: "6.1.0-56-amd64",
		btf: true,
		fileSystems: "nodev\tsysfs\nnodev\tbpf\n\text4\n",
	};
	const rows: [string, object, RegExp | undefined][] = [
		["6.1", {}, undefined],
		["7.0", { version: "7.0.0" }, undefined],
		["6.10 is later than 6.2", { version: "6.10.3" }, undefined],
		["5.15", { version: "5.15.0-100-generic" }, /expected a Linux kernel 6\.1 or later, got 5\.15/],
		["no BTF", { btf: false }, /the kernel has no BTF/],
		[
			"no bpffs",
			{ fileSystems: "nodev\tsysfs\nnodev\tbpfilter\n" },
			/the kernel has no BPF file system/,
		],
		["not Linux", { platform: "darwin" }, /expected Linux, got darwin/],
	];
	for (const [shows, change, wanted] of rows) {
		const refusal = kernelRefusal({ ...good, ...change });
		if (wanted) t.match(refusal, wanted, shows);
		else t.equal(refusal, undefined, shows);
		t.notMatch(refusal ?? "", /\n/, shows);
	}
});

t.test("a machine without a recent Go is refused in one sentence", async (t) => {
	t.equal(goRefusal("go1.26.8"), undefined);
	t.equal(goRefusal("go2.0"), undefined);
	t.match(goRefusal("go1.25.9"), /expected Go 1\.26 or later, got go1\.25\.9\.$/);
	t.match(goRefusal(undefined), /expected Go 1\.26 or later as `go` in the PATH, got none\.$/);
});

t.test("a user who is not root is refused, exit status 2", async (t) => {
	const run = spawnSync(
		process.execPath,
		[
			"--input-type=module",
			"-e",
			`const { checkRoot } = await import(${JSON.stringify(script("machine.mjs"))});
			process.setuid(65534);
			try { checkRoot(); } catch (error) { console.log(error.constructor.name, error.message); }`,
		],
		{ encoding: "utf8" },
	);
	t.match(run.stdout, /^Refusal .*must run as root.*\n$/);
	const wrong = spawnSync(process.execPath, [script("run.mjs"), "dance"], { encoding: "utf8" });
	t.equal(wrong.status, 2);
	t.match(wrong.stderr, /^fairway: Cannot run "dance": expected one of start, test, .*\n$/);
});

t.test("only packages that dpkg does not have installed are missing", async (t) => {
	const status = "installed make\nconfig-files cmake\nnot-installed bpftool\n";
	t.same(missingFrom(["make", "cmake", "bpftool", "unknown"], status), [
		"cmake",
		"bpftool",
		"unknown",
	]);
});

t.test("node_modules is current when it holds what the lock file says", async (t) => {
	const lock = (packages: object): string => JSON.stringify({ packages });
	const wanted = lock({
		"": { version: "1.0.0" },
		"node_modules/a": { version: "1.0.0" },
		"node_modules/b": { version: "2.0.0", optional: true },
	});
	const a = { "node_modules/a": { version: "1.0.0" } };
	t.ok(dependenciesInstalled(wanted, lock(a)), "the optional one is of another platform");
	t.ok(dependenciesInstalled(wanted, lock({ ...a, "node_modules/b": { version: "2.0.0" } })));
	t.notOk(dependenciesInstalled(wanted, lock({})), "missing");
	t.notOk(dependenciesInstalled(wanted, lock({ "node_modules/a": { version: "1.0.1" } })), "other");
	t.notOk(dependenciesInstalled(wanted, lock({ ...a, "node_modules/c": { version: "1.0.0" } })));
});

/** A process that hands over to a program, which follows `body` and then says "ready". */
function handingOver(body: string): ChildProcess {
	const program = `setInterval(() => {}, 1000); ${body}; console.log("ready")`;
	return spawn(
		process.execPath,
		[
			"--input-type=module",
			"-e",
			`const { handOver } = await import(${JSON.stringify(script("step.mjs"))});
			process.exitCode = await handOver(process.execPath, ["-e", ${JSON.stringify(program)}]);`,
		],
		{ stdio: ["ignore", "pipe", "inherit"] },
	);
}

t.test("the program gets the signals and provides the exit status", async (t) => {
	const rows: [NodeJS.Signals | undefined, string, number][] = [
		[undefined, "process.exit(7)", 7],
		["SIGTERM", "", 143],
		["SIGINT", "process.on('SIGINT', () => process.exit(0))", 0],
		["SIGINT", "", 130],
	];
	for (const [signal, body, wanted] of rows) {
		const child = handingOver(body);
		const ended = once(child, "close");
		if (signal && child.stdout) await once(child.stdout, "data");
		if (signal) child.kill(signal);
		t.same(await ended, [wanted, null], `${signal} ${body}`);
	}
});

t.test(
	"what runs before there is a node_modules imports Node.js and its own files only",
	async (t) => {
		const seen = new Set<string>();
		const look = (file: string): void => {
			if (seen.has(file)) return;
			seen.add(file);
			const text = readFileSync(script(file), "utf8");
			for (const [, from = ""] of text.matchAll(/^(?:import|export)\b[^;]*? from "([^"]+)"/gms)) {
				if (from.startsWith(".")) look(join(dirname(file), from));
				else t.match(from, /^node:/, `${file} imports ${from}`);
			}
			t.notMatch(
				text,
				/^(const|let) [^=]*= createRequire\(/m,
				`${file} requires nothing when it is loaded`,
			);
		};
		look("run.mjs");
		look("ci.mjs");
		t.ok(seen.has("imports.mjs"));
	},
);
