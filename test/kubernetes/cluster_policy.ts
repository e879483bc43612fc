/** network-policy-api's conformance suite for ClusterNetworkPolicy, with all features (modules/network-policy-api). */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { statusOf } from "./agents.js";
import { kubeconfig } from "./certificates.js";
import type { Cluster } from "./cluster.js";
import { importImage } from "./fairway.js";
import { resultsIn } from "./go_test.js";
import { agnhostInputs, makeAgnhostRoot, makeImage } from "./images.js";
import { folders, program, router } from "./layout.js";
import type { SpecResult } from "./suite.js";

const MINUTES = 60;

interface Definition {
	spec: { versions: { name: string; served: boolean; storage: boolean }[] };
}

/** The definition of ClusterNetworkPolicy; these versions are served, and the first is stored. */
export async function definition(versions: readonly string[]): Promise<object> {
	const file = "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml";
	const object = parse(readFileSync(join(await moduleFolder(), file), "utf8")) as Definition;
	for (const version of object.spec.versions) {
		version.served = versions.includes(version.name);
		version.storage = version.name === versions[0];
	}
	return object;
}

/** Installs a definition, and waits until the agents have asked for it: for one of its versions. */
export async function installDefinition(cluster: Cluster, object: object): Promise<void> {
	await cluster.apply([object]);
	const name = "crd/clusternetworkpolicies.policy.networking.k8s.io";
	const wait = ["wait", "--for=condition=Established", "--timeout=60s", name];
	// kubectl fails at once where the object has no conditions yet.
	await until("the definition is established", async () => {
		const { status } = await cluster.kubectlResult(wait, { mayFail: true });
		return status === 0;
	});
	const installed = Date.now();
	for (const node of cluster.nodes)
		await until(
			`the agent of ${node.name} has asked for ClusterNetworkPolicies`,
			async () => {
				const asked = Date.now();
				const { sources } = await statusOf(node);
				const age = sources.find(({ kind }) => kind === "ClusterNetworkPolicy")?.ageSeconds;
				return typeof age === "number" && asked - age * 1000 > installed;
			},
			150_000,
		);
}

export async function runClusterPolicy(cluster: Cluster): Promise<SpecResult[]> {
	const archive = await makeImage("network-policy-api", {
		names: await imageNames(),
		config: { Entrypoint: ["/agnhost"], Cmd: ["pause"] },
		inputs: agnhostInputs,
		fill: makeAgnhostRoot,
	});
	await Promise.all(cluster.nodes.map((node) => importImage(node, archive)));
	await installDefinition(cluster, await definition(["v1beta1", "v1alpha2"]));
	const { status, stdout, stderr } = await router.run(
		[...[program("network-policy-api.test"), "-test.v", `-test.timeout=${MINUTES}m`]],
		{
			mayFail: true,
			timeoutMs: (MINUTES + 5) * 60_000,
			environment: { KUBECONFIG: kubeconfig("admin") },
		},
	);
	const said = stdout + stderr;
	writeFileSync(join(folders.logs, "network-policy-api.log"), said);
	const results = resultsIn(stdout);
	if (results.length === 0)
		throw new Error(
			`Cannot run the suite of network-policy-api: it ended with status ${status}: ${said.slice(-2000)}`,
		);
	return results;
}

/** Where Go keeps the module that test/kubernetes/modules/network-policy-api pins. */
async function moduleFolder(): Promise<string> {
	const list = "go list -mod=readonly -m -f '{{.Dir}}' sigs.k8s.io/network-policy-api";
	const here = join(folders.source, "modules/network-policy-api");
	return (await run(["sh", "-euc", `cd ${here} && ${list}`])).stdout.trim();
}

/** Images that the suite's Pods want, by their full names. */
async function imageNames(): Promise<string[]> {
	const manifests = join(await moduleFolder(), "conformance/base/manifests.yaml");
	const images = readFileSync(manifests, "utf8").matchAll(/^\s*image: (\S+)$/gm);
	return [...new Set([...images].map(([, name = ""]) => name))];
}
