/**
 * Objects of a big cluster as its API has them, of the size that kubelets and controllers give them. Node 0 is
 * the one that is measured; no other machine exists. Pure.
 */

export const HERE = nodeName(0);
export const NAMESPACES = 500;
const HERE_ADDRESS = "192.168.71.2";
const IMAGES = 25;
const CONDITIONS = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

export function nodeName(i: number): string {
	return `node-${String(i).padStart(5, "0")}.pool.example`;
}

export function namespace(i: number): object {
	return { apiVersion: "v1", kind: "Namespace", metadata: { name: namespaceName(i) } };
}

export function namespaceName(i: number): string {
	return `team-${i % NAMESPACES}`;
}

/** Beyond the router, but for Node 0. @param version another one moves it */
export function internalIP(i: number, version = 0): string {
	return i === 0 ? HERE_ADDRESS : `172.${16 + (version % 8)}.${i >> 8}.${i & 255}`;
}

export function podCIDR(i: number): string {
	return `10.${i >> 8}.${i & 255}.0/24`;
}

/** Without its last colon. */
function podNetwork6(i: number): string {
	return `fd00:20:${i.toString(16)}:`;
}

/** Some 10 KB of JSON with the server's own fields. */
export function node(i: number): object {
	const name = nodeName(i);
	const podCIDRs = [podCIDR(i), `${podNetwork6(i)}:/64`];
	return {
		...{ apiVersion: "v1", kind: "Node" },
		metadata: {
			name,
			labels: {
				"kubernetes.io/hostname": name,
				"kubernetes.io/os": "linux",
				"kubernetes.io/arch": "amd64",
				"node.kubernetes.io/instance-type": "m7.4xlarge",
				"topology.kubernetes.io/region": "north-1",
				"topology.kubernetes.io/zone": `north-1${"abc"[i % 3]}`,
				"node.example/pool": `pool-${i % 20}`,
			},
			annotations: { "node.example/ttl": "0", "volumes.example/managed": "true" },
		},
		spec: { podCIDR: podCIDRs[0], podCIDRs, providerID: `cloud:///north-1/i-${i}` },
		status: {
			...status(i),
			capacity: { cpu: "16", memory: "64Gi", pods: "110", "ephemeral-storage": "200Gi" },
			allocatable: { cpu: "15", memory: "60Gi", pods: "110", "ephemeral-storage": "180Gi" },
			nodeInfo: {
				...{ machineID: `m${i}`, systemUUID: `s${i}`, bootID: `b${i}`, kernelVersion: "6.12.0" },
				...{ osImage: "Linux 13", containerRuntimeVersion: "containerd://2.1.0" },
				...{ kubeletVersion: "v1.37.2", kubeProxyVersion: "", architecture: "amd64" },
				operatingSystem: "linux",
			},
			images: Array.from({ length: IMAGES }, (_, k) => ({
				names: [
					`registry.example/team-${k}/service-${k}@sha256:${String(k).padStart(64, "0")}`,
					`registry.example/team-${k}/service-${k}:v1.${k}.${i % 7}`,
				],
				sizeBytes: 100_000_000 + k,
			})),
		},
	};
}

/** What a kubelet posts. @param version of the InternalIP @param beat of the heartbeat */
export function status(
	i: number,
	version = 0,
	beat = 0,
): { addresses: object[]; conditions: object[] } {
	const at = new Date(Date.UTC(2026, 0, 1) + beat * 1000).toISOString().replace(".000", "");
	return {
		addresses: [
			{ type: "InternalIP", address: internalIP(i, version) },
			{ type: "Hostname", address: nodeName(i) },
		],
		conditions: CONDITIONS.map((type) => ({
			...{ type, status: type === "Ready" ? "True" : "False", reason: `Kubelet${type}` },
			message: `kubelet has said so: ${type}`,
			...{ lastHeartbeatTime: at, lastTransitionTime: "2026-01-01T00:00:00Z" },
		})),
	};
}

/** Twenty Pods are one workload, which is in one namespace. @param node of the cluster's */
export function pod(i: number, node: number): object {
	const workload = workloadOf(i);
	return {
		...{ apiVersion: "v1", kind: "Pod" },
		metadata: {
			...podOf(i),
			labels: {
				app: `app-${workload}`,
				tier: `t${workload % 4}`,
				"pod-template-hash": `h${workload}`,
			},
		},
		spec: {
			...{ nodeName: nodeName(node), terminationGracePeriodSeconds: 0 },
			containers: [
				{
					...{ name: "main", image: "registry.example/service:v1" },
					ports: [{ name: "http", containerPort: 8080 }],
					env: [{ name: "WORKLOAD", value: `app-${workload}` }],
				},
			],
		},
	};
}

/** What its kubelet posts. @param node of the cluster's, which has `before` others of these Pods */
export function podStatus(node: number, before: number): object {
	const host = 2 + before;
	const addresses = [
		`10.${node >> 8}.${node & 255}.${host}`,
		`${podNetwork6(node)}:${host.toString(16)}`,
	];
	return {
		...{ phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) },
		conditions: [{ type: "Ready", status: "True" }],
	};
}

/** A tenth of them selects all Pods of its namespace, the others one tier. Each names workloads, and addresses outside. */
export function networkPolicy(i: number): object {
	const app = (number: number) => ({ matchLabels: { app: `app-${number}` } });
	const namespaces = (names: string[]) => ({
		matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values: names }],
	});
	const block = `172.${16 + (i % 16)}.${(i >> 4) & 255}`;
	return {
		...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
		metadata: policyOf(i),
		spec: {
			podSelector: i % 10 === 0 ? {} : { matchLabels: { tier: `t${i % 4}` } },
			policyTypes: ["Ingress", "Egress"],
			ingress: [
				{ from: [{ podSelector: app(i) }], ports: [{ protocol: "TCP", port: 80 }] },
				{
					from: [
						{
							namespaceSelector: namespaces([namespaceName(i * 7)]),
							podSelector: { matchLabels: { tier: `t${i % 3}` } },
						},
					],
					ports: [{ protocol: "TCP", port: "http" }],
				},
			],
			egress: [
				{ to: [{ ipBlock: { cidr: `${block}.0/24`, except: [`${block}.8/29`] } }] },
				{
					to: [{ namespaceSelector: {}, podSelector: app(i % 50) }],
					ports: [{ protocol: "TCP", port: "http" }],
				},
			],
		},
	};
}

export function policiesPath(i: number): string {
	return `/apis/networking.k8s.io/v1/namespaces/${namespaceName(i)}/networkpolicies`;
}

export function policyOf(i: number): { namespace: string; name: string } {
	return { namespace: namespaceName(i), name: `policy-${i}` };
}

export function podOf(i: number): { namespace: string; name: string } {
	const workload = workloadOf(i);
	return { namespace: namespaceName(workload), name: `app-${workload}-${i}` };
}

function workloadOf(i: number): number {
	return (i / 20) | 0;
}

export function podPath(i: number): string {
	return `${podsPath(i)}/${podOf(i).name}`;
}

export function podsPath(i: number): string {
	return `/api/v1/namespaces/${podOf(i).namespace}/pods`;
}
