// Builds what is stale, in order of dependency:
//   1 node_modules   2 BPF objects   3 TypeScript of the shared tables   4 addon   5 CNI plugin
//   6 TypeScript   7 the bundle that bin/fairway loads
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { filesUnder, fingerprint, once, run, say, top } from "./step.mjs";

// A stamp is stored beside the output that it vouches for, and is removed together with it.
const ADDON_STAMP = "build/Release/inputs";

const bin = (name) => join(top, "node_modules/.bin", name);
const read = (file) => readFileSync(join(top, file), "utf8");

/** The packages of a lock file that every machine installs, as `path@version`. */
function lockedPackages(lock, { optional }) {
	return Object.entries(JSON.parse(lock).packages)
		.filter(([path, entry]) => path !== "" && (optional || !(entry.optional || entry.devOptional)))
		.map(([path, entry]) => `${path}@${entry.version}`);
}

/** True if node_modules matches the lock file (npm keeps a lock file of its own there). */
export function dependenciesInstalled(lock, installedLock) {
	const installed = new Set(lockedPackages(installedLock, { optional: true }));
	const allowed = new Set(lockedPackages(lock, { optional: true }));
	return (
		lockedPackages(lock, { optional: false }).every((name) => installed.has(name)) &&
		[...installed].every((name) => allowed.has(name))
	);
}

export function installDependencies() {
	const hidden = "node_modules/.package-lock.json";
	if (
		existsSync(join(top, hidden)) &&
		dependenciesInstalled(read("package-lock.json"), read(hidden))
	)
		return;
	say("Installing the npm packages of package-lock.json and compiling the addon (npm ci)");
	run("npm", ["ci", "--no-audit", "--no-fund"], { quiet: true });
	// npm has just built it because of binding.gyp; CMake would find nothing to do.
	once(ADDON_STAMP, addonInputs, () => {});
}

/** Runs make in `folder`, unless it finds nothing to do: it knows which headers each object includes. */
function make(folder, message) {
	const args = ["--silent", "-C", folder, `-j${availableParallelism()}`];
	if (spawnSync("make", [...args, "--question"], { cwd: top, stdio: "ignore" }).status === 0)
		return;
	say(message);
	run("make", args);
}

export function buildBpf() {
	make("bpf", "Compiling and linking the BPF programs");
}

/** `check`: only compares, and fails if the committed file differs from what BTF gives. */
export function generateTables({ check = false, force = false } = {}) {
	const inputs = () =>
		fingerprint([
			"build/bpf/fairway.bpf.o",
			"bpf/lib/tables.h",
			"scripts/generate-tables.ts",
			"scripts/counters.ts",
			"scripts/clouds.ts",
			"scripts/configuration.ts",
			"scripts/metrics.ts",
			"scripts/man.ts",
			"scripts/chart.ts",
			"deploy/fairway.yaml",
			"package.json",
			"src/config/config.ts",
			"src/config/schema.ts",
			"src/probe/causes.ts",
			...["exit", "lab_usage", "main"].map((name) => `src/cli/${name}.ts`),
			...filesUnder("src/http", /^(durations|metrics|peer_metrics)\.ts$/),
			...filesUnder("src/tables", /^(btf|elf|layout|generated)\.ts$/),
		]);
	const generate = (...args) =>
		run(process.execPath, ["--import=tsx", "scripts/generate-tables.ts", ...args]);
	if (check) generate("--check");
	else if (force) generate();
	else once("build/bpf/generated", inputs, () => generate());
}

const addonInputs = () =>
	fingerprint(
		[...filesUnder("native", /\.(cc|h)$/), "CMakeLists.txt", "package-lock.json"],
		process.versions.modules,
	);

function buildAddon() {
	once(ADDON_STAMP, addonInputs, () => {
		say("Compiling the addon over libbpf");
		forgetMovedCache(join(top, "build/native"));
		run(bin("cmake-js"), ["compile", "--out", "build/native"], { quiet: true });
	});
}

/** CMake would go on building in the directory that a copied or moved checkout came from. */
function forgetMovedCache(directory) {
	const cache = join(directory, "CMakeCache.txt");
	if (!existsSync(cache)) return;
	const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, "utf8"))?.[1];
	if (home !== top) rmSync(directory, { recursive: true });
}

function buildTypeScript() {
	const inputs = () =>
		fingerprint([...filesUnder("src", /\.ts$/), "tsconfig.json", "package-lock.json"]);
	once("dist/inputs", inputs, () => {
		say("Compiling TypeScript");
		run(bin("tsc"), ["-p", "tsconfig.json"]);
	});
}

/** What a process loads as a program of its own; the code of a command is a chunk of `main`. */
const PROGRAMS = ["dist/cli/main.js", "dist/cluster/document_worker.js"];

/** For `require` in packages of CommonJS, which a module does not have. */
const REQUIRE =
	'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';

/**
 * Few files in place of some 400: to find, read and link these took a third of the agent's start. They lie as deep
 * below the top as the modules they were made of, whose paths to other files hold.
 */
function bundle() {
	const inputs = () => fingerprint(["dist/inputs", "scripts/build.mjs", "package-lock.json"]);
	once("dist/bundle/inputs", inputs, () => {
		rmSync(join(top, "dist/bundle"), { recursive: true, force: true });
		const format = ["--bundle", "--splitting", "--format=esm", "--platform=node"];
		const names = ["--outdir=dist/bundle", "--entry-names=[name]", `--banner:js=${REQUIRE}`];
		// The engine keeps the source, with two bytes for each character where a comment has an arrow. Lines stay, for
		// the places that errors name.
		const size = ["--minify-whitespace", "--line-limit=120"];
		const rest = ["--external:#native", "--log-level=warning"];
		run(bin("esbuild"), [...PROGRAMS, ...format, ...names, ...size, ...rest]);
	});
}

export function build() {
	installDependencies();
	buildBpf();
	generateTables();
	buildAddon();
	make("cni", "Compiling the CNI plugin");
	buildTypeScript();
	bundle();
}
