/** A Service for tests. */
import type { Cluster } from "./cluster.js";
import { testNamespace } from "./pods.js";

/** A dual-stack Service of the Pods `app=NAME`, port 80. */
export async function startService(cluster: Cluster, name: string): Promise<void> {
	await cluster.apply([
		{
			apiVersion: "v1",
			kind: "Service",
			metadata: { name, namespace: testNamespace },
			spec: {
				selector: { app: name },
				ports: [{ port: 80 }],
				ipFamilyPolicy: "RequireDualStack",
			},
		},
	]);
}

/** Its cluster IPs. */
export async function serviceAddress(cluster: Cluster, name: string): Promise<string[]> {
	interface Service {
		spec: { clusterIPs: string[] };
	}
	const { spec } = await cluster.get<Service>("-n", testNamespace, "service", name);
	return spec.clusterIPs;
}
