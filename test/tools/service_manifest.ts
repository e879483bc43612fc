/** Manifests of dual-stack Services in a lab, with endpoints on its machines. */
import { BULK_PORT, type Cluster, TCP_PORT, UDP_PORT } from "./cluster.js";

export const FAMILIES = [4, 6] as const;
export type Family = (typeof FAMILIES)[number];

/** With Services. */
export const SERVICE_SETTINGS = {
	trafficEncapMode: "hybrid",
	serviceCIDRs: ["10.96.0.0/16", "fd00:96::/112"],
	fairwayProxy: { enable: true, healthServer: "" },
} as const;

export const clusterIp = (family: Family, n: number): string =>
	`${family === 4 ? "10.96.0." : "fd00:96::"}${n}`;

/** Outside the service CIDRs; the test has to route it to a Node. */
export const balancerIp = (family: Family, n: number): string =>
	`${family === 4 ? "192.0.2." : "fd00:b::"}${n}`;

/** TCP and UDP. */
export const nodePort = (n: number): number => 30_000 + n;

export interface ServiceEndpoint {
	machine: string;
	conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean };
}

/**
 * Service s<n>: TCP 80, UDP 53, and TCP 81 for bulk data, at its cluster IPs, load balancer IPs and NodePorts; and a
 * slice for each family.
 */
export function serviceManifest(
	{ lab }: Cluster,
	n: number,
	endpoints: readonly ServiceEndpoint[],
	spec: object = {},
): object[] {
	const name = `s${n}`;
	const port = (name: string, protocol: string, port: number, nodePort: number) => ({
		...{ name, protocol, port, nodePort },
	});
	const nodeOf = (machine: string) => /\d/.exec(machine)?.[0];
	const service = {
		...{ apiVersion: "v1", kind: "Service", metadata: { name } },
		spec: {
			...{ type: "LoadBalancer", clusterIPs: FAMILIES.map((family) => clusterIp(family, n)) },
			ports: [
				port("tcp", "TCP", 80, nodePort(n)),
				port("udp", "UDP", 53, nodePort(n)),
				port("bulk", "TCP", 81, nodePort(n) + 100),
			],
			...spec,
		},
		status: {
			loadBalancer: { ingress: FAMILIES.map((family) => ({ ip: balancerIp(family, n) })) },
		},
	};
	const slices = FAMILIES.map((family) => ({
		...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice" },
		metadata: { name: `${name}-${family}`, labels: { "kubernetes.io/service-name": name } },
		addressType: `IPv${family}`,
		ports: [
			{ name: "tcp", protocol: "TCP", port: TCP_PORT },
			{ name: "udp", protocol: "UDP", port: UDP_PORT },
			{ name: "bulk", protocol: "TCP", port: BULK_PORT },
		],
		endpoints: endpoints.map(({ machine, conditions = {} }) => ({
			...{ addresses: [lab.address(machine, family)], conditions },
			...(nodeOf(machine) === undefined ? {} : { nodeName: `node${nodeOf(machine)}` }),
		})),
	}));
	return [service, ...slices];
}

/** What a Node's processes and its neighbours know it by in the Pods' network. */
export async function gatewayOf({ lab }: Cluster, node: string, family: Family): Promise<string> {
	const { podCIDRs } = await lab.agent(node).status();
	const cidr = podCIDRs.find((cidr) => cidr.includes(":") === (family === 6)) ?? "";
	return cidr.replace(/(0|:)\/\d+$/, (_, end) => (end === "0" ? "1" : ":1"));
}
