/**
 * cyclonus: 230 generated cases of NetworkPolicy, each a few policies and changes, after each of which all nine Pods
 * connect to each other on two ports by TCP, UDP and SCTP (modules/cyclonus), to one destination or several at once.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { kubeconfig } from "./certificates.js";
import type { Cluster } from "./cluster.js";
import { importImage } from "./fairway.js";
import { makeImage } from "./images.js";
import { folders, program, router } from "./layout.js";
import type { SpecResult } from "./suite.js";

/** What the Pods connect to: each other's addresses, or a Service of each Pod. */
export const destinations = ["pod-ip", "service-ip", "service-name"] as const;
export type Destination = (typeof destinations)[number];

const results = join(folders.results, "cyclonus.jsonl");
const HOURS_MS = 3 * 3_600_000;

interface Outcome {
	name: string;
	destination: Destination;
	passed: boolean;
	seconds: number;
	repeated: number;
	message: string;
	/** What a first probe had wrong, and the second not; "": none. */
	first: string;
}

/**
 * One run for all destinations: what takes time is the commands in the Pods.
 *
 * @param cases a regular expression over their names; "": all
 * @returns results by destination
 */
export async function runCyclonus(
	cluster: Cluster,
	wanted: readonly Destination[],
	cases: string,
): Promise<Map<Destination, SpecResult[]>> {
	const archive = await makeImage("cyclonus", {
		// cyclonus adds the name to its registry.
		names: [`${registry}/e2e-test-images/agnhost:2.43`],
		config: { Entrypoint: ["/agnhost"], Cmd: ["pause"] },
		inputs: [program("agnhost"), program("agnhost-front"), program("connector")],
		fill: async (folder) => {
			copyFileSync(program("agnhost"), join(folder, "agnhost-program"));
			copyFileSync(program("agnhost-front"), join(folder, "agnhost"));
			copyFileSync(program("connector"), join(folder, "worker"));
		},
	});
	await Promise.all(cluster.nodes.map((node) => importImage(node, archive)));
	mkdirSync(folders.results, { recursive: true });
	rmSync(results, { force: true });
	const { status, stdout, stderr } = await router.run(
		[
			...[program("cyclonus"), "-kubeconfig", kubeconfig("admin"), "-registry", registry],
			...["-destinations", wanted.join(","), "-results", results, "-cases", cases],
		],
		{ mayFail: true, timeoutMs: HOURS_MS },
	);
	const said = stdout + stderr;
	writeFileSync(join(folders.logs, "cyclonus.log"), said);
	const outcomes = outcomesIn(results);
	if (outcomes.length === 0)
		throw new Error(`Cannot run cyclonus: it ended with status ${status}: ${said.slice(-2000)}`);
	return new Map(
		wanted.map((destination) => [
			destination,
			outcomes
				.filter((one) => one.destination === destination)
				.map(({ name, passed, seconds, message, first }) => ({
					...{ name, seconds, message },
					...(first === "" ? {} : { note: `the first probe: ${first}` }),
					state: passed ? "passed" : "failed",
				})),
		]),
	);
}

/** Cases that have ended since the run began. */
export const casesEnded = (): number => new Set(outcomesIn(results).map(({ name }) => name)).size;

/** The registry of the image. */
const registry = "localhost";

function outcomesIn(file: string): Outcome[] {
	try {
		return readFileSync(file, "utf8")
			.split("\n")
			.filter((line) => line !== "")
			.map((line) => JSON.parse(line) as Outcome);
	} catch {
		return [];
	}
}
