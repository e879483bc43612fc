/** Kubernetes manifests as a cluster whose policies can be read, for commands that need no agent. */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { mapping } from "../cluster/fields.js";
import { kindOf, readObject } from "../cluster/kinds.js";
import type { NamespaceObject } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import { ALIASES_MAX, parseYaml, positionOf } from "../files/yaml.js";
import type { Cluster } from "./interpreter.js";

/** The objects of a text in YAML or JSON, those of lists one by one; or "LINE:COLUMN: message". */
export function readManifestObjects(text: string): { objects: unknown[] } | { fault: string } {
	const { documents, lines, faults } = parseYaml(text);
	const [fault] = faults;
	if (fault !== undefined) {
		const { line, column } = positionOf(lines, fault.offset);
		return { fault: `${line}:${column}: expected YAML: ${fault.message}` };
	}
	const objects: unknown[] = [];
	for (const document of documents) {
		const value = mapping(document.toJS({ maxAliasCount: ALIASES_MAX }));
		const { kind, items, apiVersion } = value;
		if (typeof kind === "string" && kind.endsWith("List") && Array.isArray(items))
			for (const item of items)
				objects.push({ apiVersion, kind: kind.slice(0, -4), ...mapping(item) });
		else objects.push(value);
	}
	return { objects };
}

/** Those of these objects that are policies. */
export function policiesAmong(objects: readonly unknown[]): unknown[] {
	return objects.filter((object) => {
		const kind = kindOf(mapping(object));
		return kind === "NetworkPolicy" || kind === "ClusterNetworkPolicy";
	});
}

/** What can be used of these objects; of several with one name the last. */
export function clusterOf(objects: readonly unknown[]): Cluster {
	const nodes = new Map<string, NodeObject>();
	const namespaces = new Map<string, NamespaceObject>();
	const pods = new Map<string, PodObject>();
	const policies = new Map<string, NetworkPolicyObject>();
	const clusterPolicies = new Map<string, ClusterPolicyObject>();
	for (const object of objects) {
		const kind = kindOf(mapping(object));
		const reading = kind === undefined ? undefined : readObject(kind, object);
		if (reading === undefined || !("record" in reading)) continue;
		if (reading.kind === "Node") nodes.set(reading.key, reading.record);
		else if (reading.kind === "Namespace") namespaces.set(reading.key, reading.record);
		else if (reading.kind === "Pod") pods.set(reading.key, reading.record);
		else if (reading.kind === "NetworkPolicy") policies.set(reading.key, reading.record);
		else if (reading.kind === "ClusterNetworkPolicy")
			clusterPolicies.set(reading.key, reading.record);
	}
	return {
		...{
			nodes: [...nodes.values()],
			namespaces: [...namespaces.values()],
			pods: [...pods.values()],
		},
		...{ policies: [...policies.values()], clusterPolicies: [...clusterPolicies.values()] },
	};
}
