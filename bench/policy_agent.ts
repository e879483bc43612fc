/**
 * What a change costs in the agent at the limits of a cluster (policy_compile.ts), from the store into the kernel's maps.
 *
 *   unshare --net --mount --propagation private node --expose-gc --import=tsx bench/policy_agent.ts
 */
import { Policies } from "../src/agent/policies.js";
import { Store, type StoreWriter } from "../src/cluster/store.js";
import type { Endpoint } from "../src/cni/endpoint.js";
import { LoopLag } from "../src/observe/loop_lag.js";
import type { PolicyKind } from "../src/policy/compiler.js";
import {
	buildObject,
	memoryLog,
	openReconciler,
	tablesOf,
} from "../test/node/reconcile/fixture.js";
import { HERE, LOCAL, objects, pod, policy } from "./tools/policy_cluster.js";

const endpoints: Endpoint[] = Array.from({ length: LOCAL }, (_, i) => {
	const { namespace, name, uid, addresses } = pod(i);
	return {
		...{ network: "fairway", containerId: name, ifName: "eth0", netns: "/", gateways: [] },
		...{ mac: "02:00:00:00:00:01", hostInterface: `fairway${i}`, mtu: 1500, attachedAt: "" },
		...{ namespace, name, addresses: [...addresses], ...(uid === undefined ? {} : { uid }) },
	};
});

function memory(): string {
	globalThis.gc?.();
	const { rss, heapUsed } = process.memoryUsage();
	return `${(rss / 1e6).toFixed(0)} MB resident, heap ${(heapUsed / 1e6).toFixed(0)} MB`;
}

const reconciler = await openReconciler(buildObject("bench"));
await reconciler.apply(tablesOf({ peers: 2, pods: 0 }));
console.log(`empty: ${memory()}`);
const store = new Store();
store.update((writer) => {
	for (const kind of Object.keys(objects) as PolicyKind[]) {
		for (const [key, record] of objects[kind]) writer.put(kind, key, record as never);
		writer.setSynced(kind, true);
		objects[kind].clear();
	}
});
console.log(`store: ${memory()}`);
const make = () =>
	new Policies({
		...{ nodeName: HERE, store, kernel: reconciler, pods: undefined, unknownPods: "closed" },
		endpoints: () => endpoints,
		peerIds: () => new Map([["n1", 1]]),
		isReady: () => true,
		log: memoryLog(),
	});

async function time(what: string, act: () => Promise<unknown>): Promise<void> {
	const lag = new LoopLag({ log: memoryLog() });
	const used = process.cpuUsage();
	const began = performance.now();
	await act();
	const ms = performance.now() - began;
	const { user, system } = process.cpuUsage(used);
	const worst = JSON.stringify(lag.read());
	lag.close();
	console.log(
		`${what}: ${ms.toFixed(1)} ms, CPU ${((user + system) / 1000).toFixed(1)}, lag ${worst}`,
	);
}

let policies = make();
await time("all of it", () => policies.flush());
console.log(`in force: ${memory()}`);
const change = (write: (writer: StoreWriter) => void) => {
	store.update(write);
	return policies.flush();
};
const putPod = (i: number, app: string) => (writer: StoreWriter) => {
	const one = pod(i, app);
	writer.put("Pod", `${one.namespace}/${one.name}`, one);
};
await time("1,000 Pods change, one after another", async () => {
	for (let i = 0; i < 1000; i++) await change(putPod(20_000 + i * 7, `app${i}`));
});
await time("1,000 status updates of Pods that change nothing", async () => {
	for (let i = 0; i < 1000; i++)
		await change((writer) => {
			const one = { ...pod(40_000 + i * 7), isReady: false };
			writer.put("Pod", `${one.namespace}/${one.name}`, one);
		});
});
await time("100 policies change, one after another", async () => {
	for (let i = 0; i < 100; i++)
		await change((writer) => {
			const one = policy(i, 81 + i);
			writer.put("NetworkPolicy", `${one.namespace}/${one.name}`, one);
		});
});
await time("a Namespace's label", () =>
	change((writer) => {
		const labels = ["env", "prod", "kubernetes.io/metadata.name", "ns3"];
		writer.put("Namespace", "ns3", { name: "ns3", labels, audit: false });
	}),
);
console.log(`after changes: ${memory()}`);
await policies.stop();
policies = make();
await time("a restart, until its policies are in force", () => policies.flush());
await policies.stop();
console.log(`after a restart in one process: ${memory()}`);
await reconciler.close();
