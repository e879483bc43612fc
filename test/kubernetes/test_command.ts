/**
 * npm run test:cluster: brings the cluster up, runs suites on it in one or more modes, and removes it. Prints TAP;
 * its status is 0 if everything passed.
 */
import t from "tap";
import { onInterrupt } from "../../src/lab/interrupt.js";
import { type Mode, statusOf } from "./agents.js";
import { clientTests } from "./client.js";
import { Cluster, sweep } from "./cluster.js";
import { record } from "./conformance_document.js";
import { forbiddenTests } from "./forbidden.js";
import { handoverTests } from "./handover.js";
import { hostPortTests } from "./host_ports.js";
import { makeImages } from "./images.js";
import { faultsOf } from "./inventory.js";
import { leftOut } from "./left_out.js";
import { lifeCycleTests } from "./life_cycle.js";
import { changeMode, isPlain, startNetwork } from "./network.js";
import { policyTests } from "./policies.js";
import { prepare } from "./prepare.js";
import { routingTests } from "./routing.js";
import { smokeTests } from "./smoke.js";
import { type SpecResult, writeSuite } from "./suite.js";
import { type Job, jobsOf, upstream } from "./suites.js";
import { type TestOptions, testOptions, usage } from "./test_options.js";
import { listSpecs, runSpecs } from "./upstream.js";

/** One test point for each spec. */
function report(results: readonly SpecResult[], prefix: string): void {
	for (const { name, state, message, note } of results) {
		if (note !== undefined) t.comment(`${prefix}: ${name}: ${note}`);
		if (state === "passed") t.pass(`${prefix}: ${name}`);
		else t.fail(`${prefix}: ${name}`, { failure: message.slice(0, 2000) });
	}
}

/** Shows those who watch that a long step goes on: on standard error, since TAP's comments wait for its points. */
async function announced<T>(
	what: string,
	step: () => Promise<T>,
	progress: () => string = () => "goes on",
): Promise<T> {
	const start = Date.now();
	const tell = (text: string): void => {
		process.stderr.write(
			`fairway: ${what}: ${text} (${Math.round((Date.now() - start) / 1000)} s)\n`,
		);
	};
	const timer = setInterval(() => tell(progress()), 30_000);
	try {
		return await step();
	} finally {
		clearInterval(timer);
		tell("done");
	}
}

async function main(options: TestOptions): Promise<void> {
	const { suites, proxy, procs, cases, minutes, selection } = options;
	if (suites.includes("client")) {
		await announced("client", () => clientTests(t));
		if (suites.length === 1) return;
	}
	if (suites.some((one) => upstream.includes(one)))
		t.strictSame(
			faultsOf(await listSpecs("sig-network")),
			[],
			"every spec of [sig-network] is in a suite or left out for a reason",
		);
	const cluster = await announced("cluster", Cluster.up);
	try {
		let first = true;
		for (const network of options.networks) {
			if (first) {
				const seconds = await announced(`network ${network}`, () =>
					startNetwork(cluster, network, proxy),
				);
				t.comment(`all Nodes Ready ${seconds.toFixed(1)} s after the installation`);
				await announced("DNS", () => cluster.startDns());
			} else await announced(`mode ${network}`, () => changeMode(cluster, network as Mode));
			first = false;
			if (selection !== undefined) {
				const { labels, focus } = selection;
				const skip = [
					selection.skip,
					...(focus === "" ? leftOut : []).map(({ pattern }) => pattern),
				]
					.filter((pattern) => pattern !== undefined)
					.join("|");
				const run = () => runSpecs({ labels, focus, skip, procs, minutes });
				const results = await announced(`specs, ${network}`, run);
				report(results, network);
				if (options.writeSuite !== undefined) writeSuite(options.writeSuite, results);
				continue;
			}
			const run = async ({ suites, run, progress }: Job): Promise<void> => {
				try {
					const what = `${suites.join(", ")}, ${network}`;
					const results = await announced(what, () => run(cluster, { procs, cases }), progress);
					for (const [name, specs] of results) {
						report(specs, `${network}, ${name}`);
						if (options.record) record(name, network, proxy, specs);
					}
				} catch (error) {
					// The others go on.
					t.fail(`${network}, ${suites.join(", ")}: ${(error as Error).message}`);
				}
			};
			const jobs = jobsOf(suites);
			if (options.together) await Promise.all(jobs.map(run));
			else for (const job of jobs) await run(job);
			if (isPlain(network)) continue;
			for (const node of cluster.nodes) {
				const { problems, drops } = await statusOf(node);
				t.strictSame(problems, [], `${network}: the agent of ${node.name} has no problem`);
				// Tables of policy in a wrong order would show here.
				t.equal(
					drops.policy_incomplete ?? 0,
					0,
					`${network}: no policy was incomplete on ${node.name}`,
				);
			}
		}
		if (options.networks.some(isPlain)) return;
		if (suites.includes("routing")) await routingTests(t, cluster);
		if (suites.includes("smoke")) await smokeTests(t, cluster);
		if (suites.includes("host-ports")) await hostPortTests(t, cluster);
		if (suites.includes("policies")) await policyTests(t, cluster);
		if (suites.includes("forbidden")) await forbiddenTests(t, cluster);
		if (suites.includes("handover")) await handoverTests(t, cluster);
		if (suites.includes("life-cycle")) await lifeCycleTests(t, cluster);
	} finally {
		await announced("removal", () => cluster.down());
	}
}

/** Status 2: nothing could be run. */
function optionsOrRefusal(): TestOptions {
	try {
		return testOptions(args);
	} catch (error) {
		process.stderr.write(`fairway: ${(error as Error).message}\n`);
		process.exit(2);
	}
}

const args = process.argv.slice(2);
const options = optionsOrRefusal();
if (options.help) process.stdout.write(usage);
else {
	t.setTimeout(0);
	onInterrupt(() => sweep());
	try {
		prepare(args);
		await makeImages();
		await main(options);
	} catch (error) {
		t.fail((error as Error).message);
	}
	t.end();
}
