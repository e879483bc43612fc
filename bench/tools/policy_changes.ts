/** What a change of policies, Pods and Namespaces costs until it is in force, and what many of them cost the agent. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import { writeAddress } from "../../src/tables/address.js";
import { Endpoint, NodeConfig } from "../../src/tables/generated.js";
import {
	crowdAddress,
	crowdPod,
	type Manifests,
	MOVING_FILE,
	namespace,
	PODS,
	policy,
} from "./policy_plan.js";
import type { Site } from "./site.js";

/** What the agent waits for more changes of a directory (src/files/path_watch.ts). */
export const QUIET_MS = 100;
/** Within this time every change has to be there, ms. */
const PATIENCE = 300_000;
const CHANGES = 60;
const MOVES = 20;
const EVENTS = { perSecond: 50, seconds: 10 };

export const text = (objects: readonly object[]): string =>
	objects.map((object) => JSON.stringify(object)).join("\n---\n");

/** The tables of one Node's agent. */
export class PolicyTables {
	readonly #maps = new Map<string, BpfMap>();
	readonly #pins: string;

	constructor(site: Site, node: string) {
		this.#pins = `${site.lab.agent(node).pinDirectory}/maps`;
	}

	#map(name: string): BpfMap {
		let map = this.#maps.get(name);
		if (map === undefined) {
			map = BpfMap.openPinned(`${this.#pins}/${name}`);
			this.#maps.set(name, map);
		}
		return map;
	}

	/** The ids of a local Pod's policies. */
	policiesOf(address: string): { egress: number; ingress: number } {
		const element = this.#map("endpoints").lookup(addressKey(address));
		if (element === undefined) return { egress: 0, ingress: 0 };
		const { egressPolicy, ingressPolicy } = Endpoint.decode(element);
		return { egress: egressPolicy, ingress: ingressPolicy };
	}

	classOf(address: string): number | undefined {
		return this.#map("identities").lookup(addressKey(address))?.readUInt32LE();
	}

	get routeEpoch(): number {
		return NodeConfig.decode(this.#map("node_config").lookup(Buffer.alloc(4))!).routeEpoch;
	}

	/** Packets dropped for this reason. */
	drops(reason: number): number {
		const key = Buffer.alloc(4);
		key.writeUInt32LE(reason);
		return Number(this.#map("drops").sums(key)[0]);
	}

	/** Number of entries. */
	count(name: string): number {
		const { info } = this.#map(name);
		return this.#map(name).entries().keys.length / info.keySize;
	}

	close(): void {
		for (const map of this.#maps.values()) map.close();
	}
}

function addressKey(address: string): Buffer {
	const key = Buffer.alloc(16);
	writeAddress(key, 0, address);
	return key;
}

/** Puts a file in place at once. */
export function put(site: Site, file: string, objects: readonly object[]): void {
	const path = join(site.directory, file);
	writeFileSync(`${path}.new`, text(objects));
	renameSync(`${path}.new`, path);
}

/**
 * Writes manifests to a site that runs, and waits until both Pods' policies stay what they are.
 *
 * @param pods elsewhere that have to be known
 */
export async function enforce(site: Site, manifests: Manifests, pods = 0): Promise<void> {
	for (const [file, objects] of Object.entries(manifests)) put(site, file, objects);
	const began = performance.now();
	if (pods > 0) {
		const tables = new PolicyTables(site, "node1");
		while (tables.classOf(crowdAddress(pods - 1)) === undefined) {
			await delay(100);
			if (performance.now() - began > PATIENCE)
				throw new Error(`Cannot set up ${site.name}: its last Pod never came`);
		}
		tables.close();
	}
	for (const [node, pod] of [
		["node1", "pod1"],
		["node2", "pod2"],
	] as const) {
		const tables = new PolicyTables(site, node);
		let [since, last] = [performance.now(), ""];
		for (;;) {
			const now = JSON.stringify(tables.policiesOf(site.lab.address(pod, 4)));
			if (now !== last) [since, last] = [performance.now(), now];
			// Open, which it was before, or closed.
			const isSet = /[2-9]|\d\d/.test(now);
			if (isSet && performance.now() - since > 2000) break;
			if (performance.now() - began > PATIENCE)
				throw new Error(`Cannot set up ${site.name}: expected policies of ${pod}, got ${now}`);
			await delay(50);
		}
		const { problems = [] } = (await site.lab.agent(node).status()) as { problems?: string[] };
		const policies = problems.filter((problem) => /polic/.test(problem));
		if (policies.length > 0) throw new Error(`Cannot set up ${site.name}: ${policies.join("; ")}`);
		tables.close();
	}
}

/** From the rename of a file to the awaited event, without the directory's quiet time, ms. */
export async function latency(change: () => void, isDone: () => boolean): Promise<number> {
	const began = performance.now();
	change();
	while (!isDone()) {
		await delay(1);
		if (performance.now() - began > PATIENCE)
			throw new Error("Cannot measure a change: it never came into force");
	}
	const took = performance.now() - began - QUIET_MS;
	await delay(150);
	return took;
}

export interface PolicyChanges {
	policy: number[];
	pod: number[];
	namespace: number[];
	/** Share of a core, and MB. */
	agent: { events: number; idle: number; resident: number };
}

/** Among 10,000 policies and so many Pods; of node1's agent. */
export async function measureChanges(site: Site, pods: number): Promise<PolicyChanges> {
	const tables = new PolicyTables(site, "node1");
	const [pod1] = [site.lab.address("pod1", 4)];
	const result: PolicyChanges = {
		...{ policy: [], pod: [], namespace: [] },
		agent: { events: 0, idle: 0, resident: 0 },
	};
	for (let i = 0; i < CHANGES; i++) {
		const before = tables.policiesOf(pod1).egress;
		const ports = [{ protocol: "UDP", port: 1 + i }];
		const peers = [{ podSelector: { matchLabels: { app: "somebody" } } }];
		const objects = [policy("changing", "pod1", "egress", [{ peers, ports }])];
		result.policy.push(
			await latency(
				() => put(site, "changing.json", objects),
				() => tables.policiesOf(pod1).egress !== before,
			),
		);
	}
	for (let i = 0; i < CHANGES; i++) {
		const address = crowdAddress(pods);
		const file = "new-pod.json";
		const come = i % 2 === 0;
		result.pod.push(
			await latency(
				() =>
					come
						? put(site, file, [crowdPod(pods)])
						: rmSync(join(site.directory, file), { force: true }),
				() => (tables.classOf(address) !== undefined) === come,
			),
		);
	}
	for (let i = 0; i < MOVES; i++) {
		const team = i % 2 === 0 ? "b" : "a";
		// All are written before the epoch.
		const before = tables.classOf(crowdAddress(0));
		const moving = Math.min(PODS.moving, pods);
		const last = [0, moving >> 1, moving - 1].map(crowdAddress);
		result.namespace.push(
			await latency(
				() => put(site, MOVING_FILE, [namespace("moving", team)]),
				() => last.every((address) => tables.classOf(address) !== before),
			),
		);
	}
	result.agent = await measureEvents(site, pods);
	tables.close();
	return result;
}

/** Pods that get other labels, 50 each second. */
async function measureEvents(site: Site, pods: number): Promise<PolicyChanges["agent"]> {
	const { pid } = await site.lab.agent("node1").status();
	const share = async (each: () => void): Promise<number> => {
		const [began, used] = [performance.now(), processTime(pid)];
		const count = EVENTS.perSecond * EVENTS.seconds;
		for (let i = 0; i < count; i++) {
			each();
			const due = began + ((i + 1) * 1000) / EVENTS.perSecond;
			await delay(Math.max(0, due - performance.now()));
		}
		return (processTime(pid) - used) / (performance.now() - began);
	};
	const idle = await share(() => {});
	let n = 0;
	const events = await share(() => {
		const i = pods + 1 + (n % 50);
		put(site, `event-${n % 50}.json`, [crowdPod(i, { version: `v${n}` })]);
		n++;
	});
	return { events, idle, resident: residentOf(pid) };
}

/** MB */
export function residentOf(pid: number): number {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) / 1024;
}

/** User and system time of a process, ms. */
function processTime(pid: number): number {
	const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return (Number(fields[11]) + Number(fields[12])) * 10;
}
