/** Fairway on the cluster, as its users install it: `kubectl apply -f deploy/fairway.yaml`. */
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { root } from "../../src/lab/repository.js";
import type { Cluster } from "./cluster.js";
import { folders } from "./layout.js";
import type { KubernetesNode } from "./node.js";

export const manifest = join(root, "deploy/fairway.yaml");
export const cleanupManifest = join(root, "deploy/cleanup.yaml");
const imageArchive = join(root, "build/fairway-image.tar");

/** The image that the manifest names. */
export const imageName = (): string =>
	/image: (\S+)/.exec(readFileSync(manifest, "utf8"))?.[1] ?? "none";

/** Keys of the configuration file. */
export type Settings = Record<string, unknown>;

/** Installs Fairway and waits until every Node is Ready. @returns seconds from apply to then */
export async function startFairway(cluster: Cluster, settings: Settings): Promise<number> {
	provideImage();
	await Promise.all(cluster.nodes.map((node) => importImage(node)));
	const start = Date.now();
	await cluster.kubectlResult(["apply", "-f", "-"], { input: withSettings(settings) });
	await cluster.nodesReady(120_000);
	return (Date.now() - start) / 1000;
}

/** The environment of the agents: the ConfigMap that the DaemonSet takes it from. Before the installation. */
export async function provideEnvironment(
	cluster: Cluster,
	environment: Record<string, string>,
): Promise<void> {
	await cluster.apply([
		{
			apiVersion: "v1",
			kind: "ConfigMap",
			metadata: { name: "fairway-api-server", namespace: "kube-system" },
			data: environment,
		},
	]);
}

/** Nodes that boot later import it like the other images. */
function provideImage(): void {
	mkdirSync(join(folders.run, "images"), { recursive: true });
	copyFileSync(imageArchive, join(folders.run, "images/fairway.tar"));
}

/** @param archive default Fairway's image */
export async function importImage(node: KubernetesNode, archive = imageArchive): Promise<void> {
	await node.run(["ctr", "-n", "k8s.io", "images", "import", archive]);
}

/** deploy/fairway.yaml with these keys of the configuration file changed. */
function withSettings(settings: Settings): string {
	const documents = readFileSync(manifest, "utf8").split(/^---$/m);
	return documents
		.map((text) => {
			const object = parse(text);
			if (object?.kind !== "ConfigMap" || object.metadata?.name !== "fairway-config") return text;
			return `\n${stringify(changed(object, settings))}`;
		})
		.join("---");
}

interface ConfigMap {
	data: Record<string, string>;
}

function changed(object: ConfigMap, settings: Settings): ConfigMap {
	const config = { ...parse(object.data["fairway.yaml"] ?? ""), ...settings };
	return { ...object, data: { ...object.data, "fairway.yaml": stringify(config) } };
}

/** Changes keys of the configuration in the ConfigMap; the agents take it when kubelet has written it. */
export async function configure(cluster: Cluster, settings: Settings): Promise<void> {
	const object = await cluster.get<ConfigMap>("-n", "kube-system", "configmap", "fairway-config");
	await cluster.apply([changed(object, settings)]);
}

/** The DaemonSet's Pods. */
export async function agentPods(cluster: Cluster): Promise<{ name: string; node: string }[]> {
	interface PodList {
		items: {
			metadata: { name: string; ownerReferences?: { kind: string; name: string }[] };
			spec: { nodeName: string };
		}[];
	}
	const { items } = await cluster.get<PodList>("-n", "kube-system", "pods");
	return items
		.filter(({ metadata }) =>
			metadata.ownerReferences?.some(
				({ kind, name }) => kind === "DaemonSet" && name === "fairway",
			),
		)
		.map(({ metadata, spec }) => ({ name: metadata.name, node: spec.nodeName }));
}

/** `status` waits until the roll-out has ended. */
export async function rollOut(cluster: Cluster, verb: "restart" | "status"): Promise<void> {
	await cluster.kubectl("-n", "kube-system", "rollout", verb, "daemonset/fairway");
}
