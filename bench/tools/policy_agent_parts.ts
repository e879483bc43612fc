/**
 * The parts of an agent that network policy needs, as a process: the API as a source, the store, the compiler, the
 * maps. It does what its parent's messages say, and answers each with figures.
 *
 *   policy_agent_parts.ts SERVER RUN_DIR [pieces]       the server's authority is the first message
 *
 * With `pieces` it measures the longest pieces of its event loop (pieces.ts), and its CPU time means nothing.
 */
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { keepHeapSmall, keepHeapSmaller } from "../../src/agent/heap.js";
import { Policies } from "../../src/agent/policies.js";
import { Store } from "../../src/cluster/store.js";
import type { Endpoint } from "../../src/cni/endpoint.js";
import { KubernetesSource } from "../../src/kube/kubernetes_source.js";
import {
	buildObject,
	memoryLog,
	openReconciler,
	tablesOf,
} from "../../test/node/reconcile/fixture.js";
import { type Longest, Pieces } from "./pieces.js";
import { apiUid, HERE, LOCAL, pod } from "./policy_member.js";

export type Order = "begin" | "start" | "flush" | "restart" | "end";

/** MB, and ms since `begin`. */
export interface Figures {
	resident: number;
	peak: number;
	heap: number;
	outside: number;
	ms: number;
	cpu: number;
	/** Undefined: not measured. */
	longest: Longest | undefined;
	/** From the event to the last write, ms, of each change. */
	inForce: number[];
	problems: readonly string[];
}

const [url = "", runDir = "", mode] = process.argv.slice(2);
const [ca] = (await once(process, "message")) as [string];
keepHeapSmall();
const reconciler = await openReconciler(buildObject("bench"));
await reconciler.apply(tablesOf({ peers: 2, pods: 0 }));
const endpoints: Endpoint[] = Array.from({ length: LOCAL }, (_, i) => {
	const { namespace, name, addresses } = pod(i);
	return {
		...{ network: "fairway", containerId: name, ifName: "eth0", netns: "/", gateways: [] },
		...{ mac: "02:00:00:00:00:01", hostInterface: `fairway${i}`, mtu: 1500, attachedAt: "" },
		...{ namespace, name, addresses: [...addresses], uid: apiUid(name) },
	};
});
const store = new Store();
let source: KubernetesSource | undefined;
let policies: Policies | undefined;
let inForce: number[] = [];

function make(): Policies {
	return new Policies({
		...{ nodeName: HERE, store, kernel: reconciler, pods: source?.pods, unknownPods: "closed" },
		endpoints: () => endpoints,
		peerIds: () => new Map([["n1", 1]]),
		isReady: () => true,
		onInForce: (seconds) => void inForce.push(1000 * seconds),
		log: memoryLog(),
	});
}

/** Until all of it is in force. */
async function settle(): Promise<void> {
	for (;;) {
		await policies!.flush();
		if (policies!.isSynced && source!.pods.hasOthers) return policies!.flush();
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

let [began, used] = [performance.now(), process.cpuUsage()];
const pieces = mode === "pieces" ? new Pieces() : undefined;

async function figures(): Promise<Figures> {
	const longest = await pieces?.longest();
	const status = readFileSync("/proc/self/status", "utf8");
	const mb = (name: string) =>
		Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024;
	const { heapUsed, arrayBuffers } = process.memoryUsage();
	const { user, system } = process.cpuUsage(used);
	return {
		...{ resident: mb("VmRSS"), peak: mb("VmHWM") },
		...{ heap: heapUsed / 1e6, outside: arrayBuffers / 1e6 },
		...{ ms: performance.now() - began, cpu: (user + system) / 1000 },
		...{ longest, inForce, problems: policies?.problems() ?? [] },
	};
}

const acts: Record<Order, () => Promise<void>> = {
	begin: async () => {
		pieces?.begin();
		inForce = [];
		[began, used] = [performance.now(), process.cpuUsage()];
		// From now on the peak is another one.
		writeFileSync("/proc/self/clear_refs", "5");
	},
	start: async () => {
		const access = async () => ({ servers: [new URL(url)], ca });
		const onError = (error: Error) => console.error(error);
		source = await KubernetesSource.open({ access, store, nodeName: HERE, runDir, onError });
		policies = make();
		await settle();
		keepHeapSmaller();
	},
	flush: async () => {
		await policies?.flush();
	},
	restart: async () => {
		await policies!.stop();
		policies = make();
		await settle();
	},
	end: async () => {
		pieces?.close();
		await policies?.stop();
		await source?.close();
		await reconciler.close();
		process.disconnect();
	},
};
process.on("message", (order: Order) => {
	void acts[order]()
		.then(figures)
		.then((all) => process.connected && process.send!(all));
});
// The parent failed.
process.on("disconnect", () => process.exit());
process.send!(await figures());
