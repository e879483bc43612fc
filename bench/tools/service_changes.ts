/** What a change of one endpoint among many Services costs, and many Services at once. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import { command } from "../../src/lab/repository.js";
import { Frontend, FrontendKey, Service } from "../../src/tables/generated.js";
import { CLUSTER_IP, MEASURED_SLICE, measuredSlice, SERVICE_PORT } from "./service_plan.js";
import type { Site } from "./site.js";

const CHANGES = 60;
/** What the agent waits for more changes of a directory (src/files/path_watch.ts). */
const QUIET_MS = 100;
const STARTS = 3;
const TCP = 6;
/** Within this time every change has to be there, ms. */
const PATIENCE = 10_000;

export interface Changes {
	/** From the rename of the file to the last write, without the directory's quiet time, ms. */
	latencies: number[];
	/** Ready after a restart, ms. */
	restart: { many: number[]; one: number[] };
	/** Ready after a start with nothing there, ms. */
	load: { many: number[]; one: number[] };
	/** MB */
	resident: { many: number; one: number };
}

/** Must be the last use of both sites. */
export async function measureChanges(many: Site, one: Site): Promise<Changes> {
	const latencies = await changes(many);
	const resident = { many: await residentOf(many), one: await residentOf(one) };
	const restart = { many: [] as number[], one: [] as number[] };
	const load = { many: [] as number[], one: [] as number[] };
	for (let i = 0; i < STARTS; i++)
		for (const [key, site] of [["many", many] as const, ["one", one] as const]) {
			restart[key].push(await restartOf(site));
			load[key].push(await restartOf(site, { fromNothing: true }));
		}
	return { latencies, restart, load, resident };
}

/** One endpoint comes to the measured Service, and goes, in turn. */
async function changes(site: Site): Promise<number[]> {
	const { pinDirectory } = site.lab.agent("node1");
	const [frontends, services] = ["frontends", "services"].map((name) =>
		BpfMap.openPinned(`${pinDirectory}/maps/${name}`),
	) as [BpfMap, BpfMap];
	const key = FrontendKey.encode(`${CLUSTER_IP} ${TCP} ${SERVICE_PORT.tcp}`);
	const frontend = frontends.lookup(key);
	if (frontend === undefined) throw new Error(`Cannot find the Service ${CLUSTER_IP} in frontends`);
	const index = Buffer.alloc(4);
	index.writeUInt32LE(Frontend.decode(frontend).service);
	const count = () => Number(Service.decode(services.lookup(index)!).clusterSet >> 32n);
	const latencies: number[] = [];
	const file = join(site.directory, MEASURED_SLICE);
	for (let i = 0; i < CHANGES; i++) {
		const endpoints = i % 2 === 0 ? 2 : 1;
		writeFileSync(`${file}.new`, JSON.stringify(measuredSlice(endpoints)));
		const begun = performance.now();
		renameSync(`${file}.new`, file);
		while (count() !== endpoints) {
			await delay(1);
			if (performance.now() - begun > PATIENCE)
				throw new Error(`Cannot measure a change: expected ${endpoints} endpoints, got ${count()}`);
		}
		latencies.push(performance.now() - begun - QUIET_MS);
		await delay(50);
	}
	for (const map of [frontends, services]) map.close();
	return latencies;
}

async function residentOf(site: Site): Promise<number> {
	const { pid } = await site.lab.agent("node1").status();
	const text = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1]) / 1024;
}

/** @param fromNothing what the agent before has pinned and remembered is removed first */
async function restartOf(site: Site, { fromNothing = false } = {}): Promise<number> {
	const agent = site.lab.agent("node1");
	await agent.stop();
	if (fromNothing) {
		const { pinDirectory, runDirectory } = agent;
		const cleanup = ["cleanup", "--pin-dir", pinDirectory, "--run-dir", runDirectory];
		await site.lab.run("node1", [command("fairway"), ...cleanup]);
		rmSync(runDirectory, { recursive: true, force: true });
	}
	const begun = performance.now();
	await agent.start();
	return performance.now() - begun;
}
