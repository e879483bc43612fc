/** The example cluster with fault injection, as in the tests, for a bench. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { ask } from "../../src/api/client.js";
import type { PathEvent } from "../../src/api/messages/paths.js";
import { Lab } from "../../src/lab/lab.js";
import { exampleDirectory } from "../../src/lab/repository.js";
import { Cluster, type Settings } from "../../test/tools/cluster.js";
import { Faults } from "../../test/tools/faults.js";
import { atEnd } from "./cleanup.js";

export interface ProbeSettings extends Settings {
	probes?: { failoverTime?: number; holdTime?: number; holdTimeMax?: number };
}

export interface FaultSite {
	cluster: Cluster;
	faults: Faults;
}

/** Starts a copy of examples/two-subnets in hybrid mode, until the end of the bench. */
export async function faultSite(settings: ProbeSettings = {}): Promise<FaultSite> {
	const whole = { trafficEncapMode: "hybrid" as const, ...settings };
	const directory = mkdtempSync(join(tmpdir(), "fairway-bench-"));
	atEnd(() => rmSync(directory, { recursive: true, force: true }));
	cpSync(exampleDirectory, directory, { recursive: true });
	writeFileSync(join(directory, "config.yaml"), JSON.stringify(whole));
	const lab = await Lab.prepare({ name: `fwB-${process.pid}-1`, manifests: directory });
	atEnd(() => lab.down());
	await lab.start();
	const cluster = new Cluster(lab, whole);
	await cluster.settled();
	// Faults use only `teardown` of a test.
	return { cluster, faults: new Faults({ teardown: atEnd } as unknown as Test, lab) };
}

/** The path events of a Node's agent, oldest first. */
export function pathEvents({ lab }: Cluster, node: string): Promise<PathEvent[]> {
	return ask<PathEvent[]>(lab.agent(node).socket, "GET", "/events");
}
