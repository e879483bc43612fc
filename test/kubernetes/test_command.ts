/**
 * npm run test:cluster: brings the cluster up, runs suites on it in one or more modes, and removes it. Prints TAP;
 * its status is 0 if everything passed.
 */
import { parseArgs } from "node:util";
import t from "tap";
import { onInterrupt } from "../../src/lab/interrupt.js";
import { type Mode, modes, statusOf } from "./agents.js";
import { clientTests } from "./client.js";
import { Cluster, sweep } from "./cluster.js";
import { record } from "./conformance_document.js";
import { forbiddenTests } from "./forbidden.js";
import { handoverTests } from "./handover.js";
import { hostPortTests } from "./host_ports.js";
import { makeImages } from "./images.js";
import { leftOut } from "./left_out.js";
import { lifeCycleTests } from "./life_cycle.js";
import {
	changeMode,
	isPlain,
	type Network,
	networks,
	type ServiceProxy,
	serviceProxies,
	startNetwork,
} from "./network.js";
import { policyTests } from "./policies.js";
import { routingTests } from "./routing.js";
import { smokeTests } from "./smoke.js";
import { type SpecResult, writeSuite } from "./suite.js";
import { runSuite, suiteNames } from "./suites.js";
import { runSpecs } from "./upstream.js";

/** Suites of this project's own; the others are upstream's. They change modes themselves. */
const own = [
	...["client", "smoke", "policies", "forbidden", "host-ports", "routing", "handover"],
	"life-cycle",
];

const usage = `Usage: npm run test:cluster [-- OPTIONS]
  --mode MODE       one of ${networks.join(", ")}; may be repeated (default: ${modes.join(", ")})
  --services PROXY  ${serviceProxies.join(" or ")} (default fairway; plain and kube-router always have kube-proxy)
  --suite SUITE     ${[...own, ...suiteNames].join(", ")}; may be repeated (default: smoke, conformance, pods)
  --labels QUERY    upstream's specs with these labels instead of a suite, as in 'sig-network && !Slow'
  --focus REGEX     upstream's specs of these names instead of a suite
  --skip REGEX      not those of these names, and with --labels none of left_out.ts
  --cases REGEX     of cyclonus only these, and nothing is recorded
  --procs N         specs at once (default 4)
  --together        suites of others at the same time: they know nothing of each other
  --minutes N       those that have not ended by then have failed, or did not run (default 120)
  --write-suite S   the selected specs that passed become the suite S
  --record          write the results of complete suites to docs/CONFORMANCE.md
  --help
`;

const { values } = parseArgs({
	options: {
		mode: { type: "string", multiple: true, default: [...modes] },
		suite: { type: "string", multiple: true, default: ["smoke", "conformance", "pods"] },
		labels: { type: "string" },
		focus: { type: "string" },
		skip: { type: "string" },
		cases: { type: "string", default: "" },
		minutes: { type: "string", default: "120" },
		services: { type: "string", default: "fairway" },
		"write-suite": { type: "string" },
		procs: { type: "string", default: "4" },
		together: { type: "boolean", default: false },
		record: { type: "boolean", default: false },
		help: { type: "boolean", default: false },
	},
});

function refuse(message: string): never {
	process.stderr.write(`fairway: ${message}\n`);
	process.exit(2);
}

function chosen<T extends string>(
	what: string,
	given: readonly string[],
	known: readonly T[],
): T[] {
	for (const one of given)
		if (!known.includes(one as T))
			refuse(`Cannot run the ${what} ${one}: expected one of ${known.join(", ")}.`);
	return known.filter((one) => given.includes(one));
}

/** One test point for each spec. */
function report(results: readonly SpecResult[], prefix: string): void {
	for (const { name, state, message } of results)
		if (state === "passed") t.pass(`${prefix}: ${name}`);
		else t.fail(`${prefix}: ${name}`, { failure: message.slice(0, 2000) });
}

/** Shows those who watch that a long step goes on. */
async function announced<T>(what: string, step: () => Promise<T>): Promise<T> {
	const start = Date.now();
	const tell = (text: string): void =>
		t.comment(`${what}: ${text} (${Math.round((Date.now() - start) / 1000)} s)`);
	const timer = setInterval(() => tell("goes on"), 30_000);
	try {
		return await step();
	} finally {
		clearInterval(timer);
		tell("done");
	}
}

async function main(): Promise<void> {
	const selected = chosen<Network>("mode", values.mode, networks);
	const suites = chosen("suite", values.suite, [...own, ...suiteNames]);
	const procs = Number(values.procs);
	const minutes = Number(values.minutes);
	const { cases } = values;
	const [given] = chosen<ServiceProxy>("Services of", [values.services], serviceProxies);
	const proxy = selected.some(isPlain) ? "kube-proxy" : given!;
	if (suites.includes("client")) {
		await announced("client", () => clientTests(t));
		if (suites.length === 1) return;
	}
	const cluster = await announced("cluster", Cluster.up);
	try {
		let first = true;
		for (const network of selected) {
			if (first) {
				const seconds = await announced(`network ${network}`, () =>
					startNetwork(cluster, network, proxy),
				);
				t.comment(`all Nodes Ready ${seconds.toFixed(1)} s after the installation`);
				await announced("DNS", () => cluster.startDns());
			} else await announced(`mode ${network}`, () => changeMode(cluster, network as Mode));
			first = false;
			if (values.labels !== undefined || values.focus !== undefined) {
				const { labels = "", focus = "" } = values;
				const skip = [values.skip, ...(focus === "" ? leftOut : []).map(({ pattern }) => pattern)]
					.filter((pattern) => pattern !== undefined)
					.join("|");
				const run = () => runSpecs({ labels, focus, skip, procs, minutes });
				const results = await announced(`specs, ${network}`, run);
				report(results, network);
				const suite = values["write-suite"];
				if (suite !== undefined) writeSuite(suite, results);
				continue;
			}
			const others = suites.filter((one) => !own.includes(one));
			const run = async (name: string): Promise<void> => {
				const results = await announced(`${name}, ${network}`, () =>
					runSuite(cluster, name, { procs, cases }),
				);
				report(results, `${network}, ${name}`);
				if (values.record && cases === "") record(name, network, proxy, results);
			};
			if (values.together) await Promise.all(others.map(run));
			else for (const name of others) await run(name);
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
		if (selected.some(isPlain)) return;
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

if (values.help) process.stdout.write(usage);
else {
	t.setTimeout(0);
	onInterrupt(() => sweep());
	try {
		await makeImages();
		await main();
	} catch (error) {
		t.fail((error as Error).message);
	}
	t.end();
}
