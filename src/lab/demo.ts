/**
 * `npm start`: the example cluster, real traffic between every kind of pair, and the counters.
 *
 *  1. bring up the lab
 *  2. measure every kind of pair, in both families
 *  3. print the table; with --once, exit here, with status 0 if all traffic got through and policies denied what
 *     they are expected to
 *  4. show counters until Ctrl-C, which removes everything
 */
import { release } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { painters } from "../text/table.js";
import { isInterrupted, onInterrupt } from "./interrupt.js";
import { Lab } from "./lab.js";
import { startBackground, watchPeers } from "./live.js";
import { type Measurement, measure } from "./measure.js";
import { kinds, type Pair, samplePairs } from "./pairs.js";
import { measureConnection, policyKinds, policyPairs } from "./policies.js";
import { measurementTable } from "./report.js";
import { measureService, serviceKinds, servicePairs } from "./services.js";

const terminal = process.stdout.isTTY === true;
const paint = painters(terminal);

async function demo(once: boolean, manifests: string | undefined): Promise<number> {
	const began = performance.now();
	const lab = await Lab.prepare({
		name: `fairway-demo-${process.pid}`,
		...(manifests === undefined ? {} : { manifests }),
	});
	onInterrupt(
		async () => {
			say(terminal ? "\nRemoving everything." : "Removing everything.");
			await lab.down();
		},
		// Once the table is shown, Ctrl-C is the regular end.
		() => (shown === undefined ? 130 : shown),
	);
	let shown: number | undefined;
	try {
		await lab.start((what) => progress(`Bringing up ${what}`));
		const seconds = ((performance.now() - began) / 1000).toFixed(1);
		progress("");
		const status = await [...lab.agents.values()][0]?.status();
		say(
			`${paint.bold("Fairway")} carries ${paint.bold(basename(lab.manifests))}: ${lab.topology.nodes.length} Nodes, ${lab.topology.pods.length} Pods, ` +
				`mode ${paint.bold(status?.mode ?? "?")}, tunnels ${status?.tunnelType}, XDP ${status?.xdp}, kernel ${release()}. Up in ${seconds} s.\n`,
		);
		const measurements = await measureAll(lab);
		say(measurementTable(measurements, terminal ? process.stdout.columns : undefined));
		shown = verdict(measurements);
		if (once) return shown;
		say(`\nWhat each Node counts, ${paint.bold("until Ctrl-C")}:`);
		await startBackground(lab);
		await watchPeers(lab, terminal);
		return shown;
	} finally {
		if (!isInterrupted()) await lab.down();
	}
}

async function measureAll(lab: Lab): Promise<Measurement[]> {
	const pairs = samplePairs(lab);
	const services = await servicePairs(lab);
	const policies = policyPairs(lab);
	const measurements: Measurement[] = [];
	const count = pairs.length + services.length + policies.length;
	const begin = (title: string, { from, to, family }: Omit<Pair, "kind">) =>
		progress(
			`Measuring ${measurements.length + 1} of ${count}: ${title}, ${from} → ${to}, IPv${family}`,
		);
	for (const pair of pairs) {
		begin(kinds[pair.kind], pair);
		measurements.push(await measure(lab, pair));
	}
	for (const pair of services) {
		begin(serviceKinds[pair.kind], pair);
		measurements.push(await measureService(lab, pair));
	}
	for (const pair of policies) {
		begin(policyKinds[pair.kind], pair);
		measurements.push(await measureConnection(lab, pair));
	}
	progress("");
	return measurements;
}

function verdict(measurements: readonly Measurement[]): number {
	const failed = measurements.filter(({ faults }) => faults.length > 0);
	for (const { pair, faults } of failed)
		for (const fault of faults)
			say(paint.red(`✗ ${pair.from} → ${pair.to}, IPv${pair.family}: ${fault}`));
	if (failed.length === 0) say(paint.green(`✓ ${success(measurements)}`));
	return failed.length === 0 ? 0 : 1;
}

/** What was expected, and came. */
function success(measurements: readonly Measurement[]): string {
	const denied = measurements.filter(({ denied }) => denied !== undefined).length;
	const through = `all ${measurements.length - denied} pairs got through, each by the path shown`;
	return denied === 0 ? through : `${through}; ${denied} are denied, as the policies say`;
}

function say(text: string): void {
	process.stdout.write(`${text}\n`);
}

/** On a terminal, overwrites one line; elsewhere, prints a line each time. */
function progress(text: string): void {
	if (terminal) process.stdout.write(`\r\u001b[2K${paint.dim(text)}`);
	else if (text !== "") say(text);
}

const { values } = parseArgs({
	options: { once: { type: "boolean", default: false }, manifests: { type: "string" } },
});
try {
	process.exitCode = await demo(values.once, values.manifests);
} catch (error) {
	// Errors after an interrupt come from the removal itself.
	if (!isInterrupted()) {
		progress("");
		process.stderr.write(`${(error as Error).message}\n`);
		process.exitCode = 1;
	}
}
