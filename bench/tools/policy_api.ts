/** Records of policy_cluster.ts as objects of the Kubernetes API, as large as those of a cluster. */
import type {
	NetworkPolicyObject,
	NetworkPolicyPeer,
} from "../../src/cluster/network_policy_object.js";
import type { PodObject } from "../../src/cluster/pod_object.js";
import type { PolicyPort } from "../../src/cluster/policy_fields.js";
import type { Selector } from "../../src/cluster/selector.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import type { ApiObject } from "../../test/tools/fake_api/cluster.js";
import { apiUid } from "./policy_member.js";

/** What a kubelet writes beside it, some 2 KB. */
const CONDITIONS = [
	"PodReadyToStartContainers",
	"Initialized",
	"Ready",
	"ContainersReady",
	"PodScheduled",
].map((type) => ({
	type,
	status: "True",
	lastProbeTime: null,
	lastTransitionTime: "2026-01-01T00:00:00Z",
}));
const MOUNT = {
	name: "kube-api-access",
	readOnly: true,
	mountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
};

export function apiNode({ name, internalIPs, podCIDRs }: NodeObject): ApiObject {
	return {
		metadata: { name },
		spec: { podCIDRs },
		status: { addresses: internalIPs.map((address) => ({ type: "InternalIP", address })) },
	};
}

export function apiNamespace(name: string): ApiObject {
	return { metadata: { name, labels: { "kubernetes.io/metadata.name": name } } };
}

export function apiPod({ namespace, name, node, labels, addresses, ports }: PodObject): ApiObject {
	const uid = apiUid(name);
	const number = uid.slice(uid.lastIndexOf("-") + 1);
	return {
		metadata: {
			...{ name, namespace, uid, labels: mapOf(labels) },
			...{ creationTimestamp: "2026-01-01T00:00:00Z", generateName: `${name}-` },
			annotations: {
				"example.com/checksum": "0f".repeat(32),
				"example.com/restarted": "2026-01-01",
			},
			ownerReferences: [
				{ apiVersion: "apps/v1", kind: "ReplicaSet", name, uid: number, controller: true },
			],
		},
		spec: {
			nodeName: node,
			containers: [
				{
					...{ name: "main", image: `example.com/image:${number}`, volumeMounts: [MOUNT] },
					ports: ports.map(({ port, ...rest }) => ({ ...rest, containerPort: port })),
					env: Array.from({ length: 10 }, (_, i) => ({
						name: `VARIABLE_${i}`,
						value: `value ${i}`,
					})),
					resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "256Mi" } },
				},
			],
		},
		status: {
			...{ phase: "Running", podIP: addresses[0], conditions: CONDITIONS },
			podIPs: addresses.map((ip) => ({ ip })),
			containerStatuses: [
				{ name: "main", ready: true, restartCount: 0, containerID: `containerd://${number}` },
			],
		},
	};
}

export function apiPolicy({
	namespace,
	name,
	pods,
	ingress = [],
	egress = [],
}: NetworkPolicyObject): ApiObject {
	return {
		metadata: { namespace, name },
		spec: {
			podSelector: selectorOf(pods),
			policyTypes: ["Ingress", "Egress"],
			ingress: ingress.map(({ peers, ports }) => ({
				from: peers?.map(peerOf),
				ports: ports?.map(portOf),
			})),
			egress: egress.map(({ peers, ports }) => ({
				to: peers?.map(peerOf),
				ports: ports?.map(portOf),
			})),
		},
	};
}

function peerOf(peer: NetworkPolicyPeer): object {
	if ("block" in peer) return { ipBlock: { cidr: peer.block, except: peer.except } };
	return {
		podSelector: selectorOf(peer.pods),
		...(peer.namespaces && { namespaceSelector: selectorOf(peer.namespaces) }),
	};
}

function portOf(port: PolicyPort): object {
	return { protocol: "TCP", port: "name" in port ? port.name : port.first };
}

function selectorOf(selector: Selector): object {
	return { matchExpressions: selector };
}

function mapOf(labels: readonly string[]): Record<string, string> {
	const map: Record<string, string> = {};
	for (let at = 0; at < labels.length; at += 2) map[labels[at]!] = labels[at + 1]!;
	return map;
}
