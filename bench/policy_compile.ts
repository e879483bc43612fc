/**
 * What compiling network policy costs at the limits of a cluster: 10,000 policies, 100,000 Pods, 5,000 Nodes; and
 * one change among them. Times are medians and worst pieces between two turns of the event loop.
 *
 *   npx tsx bench/policy_compile.ts
 */
import type { NetworkPolicyObject } from "../src/cluster/network_policy_object.js";
import type { Steps } from "../src/loop/turns.js";
import { PolicyCompiler, type PolicyKind, type PolicyObjects } from "../src/policy/compiler.js";
import type { PolicyChanges } from "../src/policy/policy_tables.js";
import type { LocalEndpoint } from "../src/policy/subjects.js";
import { HERE, is, LOCAL, objects, pod, policy } from "./tools/policy_cluster.js";

const source = {
	get: <K extends PolicyKind>(kind: K, key: string) =>
		objects[kind].get(key) as PolicyObjects[K] | undefined,
};

const endpoints: LocalEndpoint[] = Array.from({ length: LOCAL }, (_, i) => {
	const { namespace, name, uid, addresses } = pod(i);
	return { id: `e${i}`, namespace, name, ...(uid === undefined ? {} : { uid }), addresses };
});

/**
 * CPU time in all, and of the longest step: what runs between two chances of other work, so that the longest piece of
 * the event loop is a slice (turns.ts) and this. CPU time, because other work on the machine counts in any other.
 */
function run(steps: Steps<PolicyChanges>) {
	const began = performance.now();
	const used = process.cpuUsage();
	let [last, worst] = [process.cpuUsage(), 0];
	for (;;) {
		const { done, value } = steps.next();
		const { user, system } = process.cpuUsage(last);
		worst = Math.max(worst, (user + system) / 1000);
		last = process.cpuUsage();
		if (done !== true) continue;
		const all = process.cpuUsage(used);
		const cpu = (all.user + all.system) / 1000;
		return { ms: performance.now() - began, cpu, worst, changes: value };
	}
}

function report(what: string, { ms, cpu, worst, changes }: ReturnType<typeof run>): void {
	const by = new Map<string, number>();
	for (const { table } of changes.writes) by.set(table, (by.get(table) ?? 0) + 1);
	const writes = [...by].map(([table, count]) => `${table} ${count}`).join(", ");
	console.log(
		`${what}: ${ms.toFixed(2)} ms (CPU ${cpu.toFixed(2)}), longest piece ${worst.toFixed(1)} ms; writes: ${writes || "none"}; ${changes.problems.join("; ")}`,
	);
}

function memory(): number {
	globalThis.gc?.();
	globalThis.gc?.();
	return process.memoryUsage().heapUsed / 2 ** 20;
}

const before = memory();
const compiler = new PolicyCompiler({ source, nodeName: HERE, unknownPods: "closed" });
const all = Object.fromEntries(Object.entries(objects).map(([kind, map]) => [kind, map.keys()]));
report("all", run(compiler.update({ changed: all, endpoints })));
console.log(`heap of the compiler without its tables: ${(memory() - before).toFixed(1)} MB`);

function median(what: string, times: number, each: (i: number) => ReturnType<typeof run>): void {
	const runs = Array.from({ length: times }, (_, i) => each(i)).sort((a, b) => a.ms - b.ms);
	report(`${what}, median of ${times}`, runs[times >> 1]!);
	report(`${what}, worst`, runs.at(-1)!);
}
function change<K extends PolicyKind>(kind: K, key: string, object: PolicyObjects[K] | undefined) {
	if (object === undefined) objects[kind].delete(key);
	else objects[kind].set(key, object);
	return run(compiler.update({ changed: { [kind]: [key] } }));
}
const keyOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;
median("a remote Pod gets other labels", 500, (i) => {
	const one = pod(5000 + i, "app7");
	return change("Pod", keyOf(one), one);
});
median("a remote Pod comes and goes", 500, (i) => {
	const one = { ...pod(6000 + (i >> 1)), name: `new${i >> 1}`, addresses: [`10.100.1.${i >> 2}`] };
	return change("Pod", keyOf(one), i % 2 === 0 ? one : undefined);
});
median("a policy in force changes its ports", 50, (i) => {
	const one = policy(i % 5, 90 + i);
	return change("NetworkPolicy", keyOf(one), one);
});
median("a policy elsewhere changes", 200, (i) => {
	const one = policy(400 + i, 90);
	return change("NetworkPolicy", keyOf(one), one);
});
median("a policy comes with a block of its own", 50, (i) => {
	const one: NetworkPolicyObject = {
		...{ namespace: "ns1", name: `block${i}`, pods: [], ingress: undefined, audit: false },
		egress: [{ peers: [{ block: `100.64.${i}.0/24`, except: [] }], ports: undefined }],
	};
	return change("NetworkPolicy", keyOf(one), one);
});
median("a policy comes with a selector over all namespaces", 20, (i) => {
	const one: NetworkPolicyObject = {
		...{ namespace: "ns1", name: `select${i}`, pods: [], egress: undefined, audit: false },
		ingress: [
			{
				peers: [{ namespaces: [], pods: is("tier", `t${i % 4}`) }],
				ports: [{ protocol: 6, first: 1000 + i, last: 1000 + i }],
			},
		],
	};
	return change("NetworkPolicy", keyOf(one), one);
});
{
	const one: NetworkPolicyObject = {
		...{ namespace: "ns1", name: "prefixes", pods: [], ingress: undefined, audit: false },
		egress: [
			{
				peers: Array.from({ length: 6000 }, (_, i) => ({
					block: `101.${i >> 8}.${i & 255}.0/24`,
					except: [],
				})),
				ports: undefined,
			},
		],
	};
	report("a policy comes with 6,000 blocks", change("NetworkPolicy", keyOf(one), one));
	const every: NetworkPolicyObject = {
		...{ namespace: "ns1", name: "every", pods: [], ingress: undefined, audit: false },
		egress: [{ peers: [{ block: "0.0.0.0/0", except: ["10.0.0.0/8"] }], ports: undefined }],
	};
	report("a policy comes with 0.0.0.0/0", change("NetworkPolicy", keyOf(every), every));
	const name = "ns2";
	report(
		"a Namespace gets another label",
		change("Namespace", name, {
			name,
			labels: ["kubernetes.io/metadata.name", name, "team", "a"],
			audit: false,
		}),
	);
	report("nothing", run(compiler.update({ changed: {} })));
}
