// npm start | test | cluster | test:cluster | test:chart | build | image | generate | check | format | bench: prepares
// the machine and the build, then runs the command. Plain Node.js: at the first run there is no
// node_modules.

import { spawnSync } from "node:child_process";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build, buildBpf, generateTables, installDependencies } from "./build.mjs";
import { check, format } from "./check.mjs";
import { image } from "./image.mjs";
import {
	apiPrograms,
	buildPrograms,
	chartPrograms,
	checkGo,
	comparedPrograms,
	goRefusal,
	goVersion,
	programsFor,
} from "./kubernetes.mjs";
import { checkKernel, checkNode, checkRoot, installPackages } from "./machine.mjs";
import { Failure, filesUnder, handOver, Refusal, say, top } from "./step.mjs";

// An ordinary user's PATH may lack the directories of ip(8) and bpftool(8).
process.env.PATH = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;
process.chdir(top);

/** The build failed and has printed why. */
class BuildFailed extends Error {}

/** Runs this file again for one build step, under a lock, so that two builds do not interfere. */
function underLock(step, ...args) {
	const self = fileURLToPath(import.meta.url);
	const built = spawnSync("flock", [top, process.execPath, self, step, ...args], {
		stdio: ["ignore", 2, 2],
	});
	if (built.status !== 0) throw new BuildFailed();
}

/** `step`: "locked-build" for everything, "locked-objects" for the inputs of the checks. */
function ready(purposes, step = "locked-build") {
	checkNode();
	installPackages(["build", ...purposes]);
	underLock(step);
}

const node = (...args) => handOver(process.execPath, args);

/** A program of test/kubernetes, with the machine and Fairway ready. It has the rest built when it has read its options. */
function onCluster(file, args) {
	checkKernel();
	checkRoot();
	checkGo();
	const routing = args.includes("routing") || args.includes("kube-router");
	ready(["start", "image", "kubernetes", ...(routing ? ["routing"] : [])]);
	return node("--import=tsx", `test/kubernetes/${file}`, ...args);
}

/** Need programs that are built with Go: an API server, or a whole cluster and Fairway's image. */
const API_BENCHES = ["bench/kube.ts", "bench/apply.ts"];
const CLUSTER_BENCH = "bench/deployment.ts";

/** Builds the programs that a bench compares Fairway with, if there is Go. It is whole without their rows. */
function prepareCompared(bench) {
	const names = Object.keys(comparedPrograms[bench] ?? {});
	if (names.length === 0) return;
	const refusal = goRefusal(goVersion());
	if (refusal) say(`${refusal} The bench ${bench} is without ${names.join(" and ")}.`);
	else underLock("locked-compared", bench);
}

const commands = {
	async start(args) {
		checkKernel();
		checkRoot();
		ready(["start"]);
		return node("--enable-source-maps", "dist/lab/demo.js", ...args);
	},
	async test(args) {
		checkKernel();
		checkRoot();
		ready(["start", "test"]);
		return handOver("node_modules/.bin/tap", ["run", ...args]);
	},
	async cluster(args) {
		return onCluster("cluster_command.ts", args);
	},
	async "test:cluster"(args) {
		return onCluster("test_command.ts", args);
	},
	async "test:chart"() {
		checkGo();
		ready([]);
		buildPrograms(chartPrograms);
		return node("--import=tsx", "test/kubernetes/chart.ts");
	},
	async bench(args) {
		checkKernel();
		checkRoot();
		ready(["start", "test"]);
		const all = filesUnder("bench", /\.ts$/).filter((file) => dirname(file) === "bench");
		let chosen = args.length ? all.filter((file) => args.includes(basename(file, ".ts"))) : all;
		if (chosen.length === 0)
			throw new Failure(
				`Cannot find the benchmark ${args.join(" ")}: expected one of ${all.map((file) => basename(file, ".ts")).join(", ")}.`,
			);
		const withGo = [...API_BENCHES, CLUSTER_BENCH].filter((file) => chosen.includes(file));
		const refusal = withGo.length > 0 ? goRefusal(goVersion()) : undefined;
		if (refusal && args.length) throw new Refusal(refusal);
		if (refusal) {
			say(`${refusal} The benches kube, apply and deployment are left out.`);
			chosen = chosen.filter((file) => !withGo.includes(file));
		} else if (withGo.includes(CLUSTER_BENCH)) {
			installPackages(["image", "kubernetes"]);
			underLock("locked-image");
			underLock("locked-kubernetes");
		} else if (withGo.length > 0) underLock("locked-api");
		for (const file of chosen) prepareCompared(basename(file, ".ts"));
		// Some benches run longer when selected by name.
		if (args.length) process.env.BENCH_BY_NAME = "1";
		for (const file of chosen) {
			const status = await node("--import=tsx", file);
			if (status !== 0) return status;
		}
		return 0;
	},
	async build() {
		ready([]);
		return 0;
	},
	async image(args) {
		const unknown = args.filter((arg) => arg !== "--root-only");
		if (unknown.length > 0)
			throw new Refusal(
				`Cannot make an image: expected --root-only or nothing, got ${unknown[0]}.`,
			);
		ready(["image"]);
		underLock(args.length > 0 ? "locked-image-root" : "locked-image");
		return 0;
	},
	async generate() {
		ready([], "locked-objects");
		generateTables({ force: true });
		return 0;
	},
	async check() {
		ready(["check"], "locked-objects");
		return check();
	},
	async format() {
		ready(["check"], "locked-objects");
		return format();
	},
	async "locked-build"() {
		build();
		return 0;
	},
	async "locked-kubernetes"(args) {
		buildPrograms(programsFor(args));
		return 0;
	},
	async "locked-api"() {
		buildPrograms(apiPrograms);
		return 0;
	},
	async "locked-compared"([bench]) {
		buildPrograms(comparedPrograms[bench]);
		return 0;
	},
	async "locked-image"() {
		image();
		return 0;
	},
	async "locked-image-root"() {
		image({ rootOnly: true });
		return 0;
	},
	async "locked-objects"() {
		installDependencies();
		buildBpf();
		return 0;
	},
};

const [name = "", ...args] = process.argv.slice(2);
try {
	const command = commands[name];
	if (!command)
		throw new Refusal(
			`Cannot run ${JSON.stringify(name)}: expected one of ${Object.keys(commands)
				.filter((known) => !known.startsWith("locked-"))
				.join(", ")}.`,
		);
	process.exitCode = await command(args);
} catch (error) {
	if (!(error instanceof Refusal || error instanceof Failure || error instanceof BuildFailed))
		throw error;
	if (!(error instanceof BuildFailed)) process.stderr.write(`fairway: ${error.message}\n`);
	process.exitCode = error instanceof Refusal ? 2 : 1;
}
