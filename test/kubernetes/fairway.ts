/** Fairway on the cluster, as its users install it: `kubectl apply -f deploy/fairway.yaml`. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { root } from "../../src/lab/repository.js";
import { startByHand } from "./by_hand.js";
import type { Cluster } from "./cluster.js";
import type { KubernetesNode } from "./node.js";

export const manifest = join(root, "deploy/fairway.yaml");
export const imageArchive = join(root, "build/fairway-image.tar");

/** Keys of the configuration file. */
export type Settings = Record<string, unknown>;

/** Installs Fairway and waits until every Node is Ready. @returns seconds from apply to then */
export async function startFairway(cluster: Cluster, settings: Settings): Promise<number> {
	if (!existsSync(manifest)) {
		const start = Date.now();
		await startByHand(cluster, settings);
		return (Date.now() - start) / 1000;
	}
	await Promise.all(cluster.nodes.map(importImage));
	const start = Date.now();
	await cluster.kubectlResult(["apply", "-f", "-"], { input: withSettings(settings) });
	await cluster.nodesReady(120_000);
	return (Date.now() - start) / 1000;
}

export async function importImage(node: KubernetesNode): Promise<void> {
	await node.run(["ctr", "-n", "k8s.io", "images", "import", imageArchive]);
}

/** deploy/fairway.yaml with these keys of the configuration file changed. */
export function withSettings(settings: Settings): string {
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
