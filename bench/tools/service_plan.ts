/**
 * The Services of bench/services.ts: one that is measured, whose only endpoint is pod2, and others beside
 * it, with ten endpoints each, that no client uses. Pure.
 */

import type { Settings } from "./site.js";

export interface ServicePlan {
	name: string;
	clusterIP: string;
	ports: readonly PortPlan[];
	endpoints: readonly string[];
}

export interface PortPlan {
	name: string;
	protocol: "TCP" | "UDP";
	port: number;
	/** The endpoints' port. */
	target: number;
	/** Absent: a ClusterIP Service. */
	nodePort?: number;
}

/** TCP as bench/tools/traffic.ts has it for a server on CPU 1, UDP as bench/tools/frame.ts. */
export const TARGET = { tcp: 5001, udp: 20_000 } as const;
export const CLUSTER_IP = "10.96.0.10";
export const EMPTY_CLUSTER_IP = "10.96.0.11";
export const SERVICE_PORT = { tcp: 80, udp: 53 } as const;
export const NODE_PORT = { tcp: 30_080, udp: 30_053 } as const;
const SERVICE_CIDR = "10.96.0.0/12";
const ENDPOINTS = 10;
/** pod2's address. */
export const BACKEND = "10.244.2.2";

/** @param count All Services. The measured one stands in the middle. */
export function servicePlans(count: number, backend: string): ServicePlan[] {
	const plans = Array.from({ length: count - 1 }, (_, i) => other(i));
	const port = (protocol: "TCP" | "UDP"): PortPlan => {
		const name = protocol.toLowerCase() as "tcp" | "udp";
		const [port, target, nodePort] = [SERVICE_PORT, TARGET, NODE_PORT].map((all) => all[name]);
		return { name, protocol, port: port!, target: target!, nodePort: nodePort! };
	};
	plans.splice(plans.length >> 1, 0, {
		name: "measured",
		clusterIP: CLUSTER_IP,
		ports: [port("TCP"), port("UDP")],
		endpoints: [backend],
	});
	return plans;
}

function other(i: number): ServicePlan {
	return {
		name: `other-${i}`,
		clusterIP: `10.97.${(i >> 8) & 255}.${i & 255}`,
		ports: [{ name: "tcp", protocol: "TCP", port: 80, target: 8080 }],
		endpoints: Array.from({ length: ENDPOINTS }, (_, e) => otherEndpoint(i * ENDPOINTS + e)),
	};
}

/** Endpoints outside the cluster, without a host. */
function otherEndpoint(n: number): string {
	return `10.${200 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

/** A Fairway that serves them. */
export function withServices(settings: Settings): Settings {
	return { ...settings, serviceCIDRs: [SERVICE_CIDR], fairwayProxy: { enable: true } };
}

/** The file whose change adds or removes an endpoint of the measured Service. */
export const MEASURED_SLICE = "measured-slice.json";
const OBJECTS_A_FILE = 2000;

/** A lab's manifests, by file name: so many Services, and one without endpoints. */
export function serviceManifests(count: number): Record<string, object[]> {
	const plans = servicePlans(count, BACKEND);
	const measured = plans.find(({ name }) => name === "measured")!;
	const empty: ServicePlan = { ...measured, name: "empty", clusterIP: EMPTY_CLUSTER_IP };
	const ports = empty.ports.map(({ nodePort: _, ...port }) => port);
	const objects = serviceObjects([
		...plans.filter((plan) => plan !== measured),
		{ ...measured, endpoints: [] },
		{ ...empty, ports, endpoints: [] },
	]);
	const files: Record<string, object[]> = { [MEASURED_SLICE]: [measuredSlice(1)] };
	for (let i = 0; i < objects.length; i += OBJECTS_A_FILE) {
		const items = objects.slice(i, i + OBJECTS_A_FILE);
		files[`services-${i / OBJECTS_A_FILE}.json`] = [{ apiVersion: "v1", kind: "List", items }];
	}
	return files;
}

/** The measured Service's EndpointSlice: pod2, and endpoints without a host. */
export function measuredSlice(endpoints: number): object {
	const ports = servicePlans(1, BACKEND)[0]!.ports;
	const more = Array.from({ length: endpoints - 1 }, (_, n) => otherEndpoint(0xffff - n));
	return sliceObject({ name: "measured", ports, endpoints: [BACKEND, ...more] });
}

/** Service and EndpointSlice of each. A Service without endpoints has no slice. */
function serviceObjects(plans: readonly ServicePlan[]): object[] {
	return plans.flatMap(({ name, clusterIP, ports, endpoints }) => {
		const isNodePort = ports.some(({ nodePort }) => nodePort !== undefined);
		const service = {
			apiVersion: "v1",
			kind: "Service",
			metadata: { name, namespace: "default" },
			spec: {
				...{ type: isNodePort ? "NodePort" : "ClusterIP", clusterIP, clusterIPs: [clusterIP] },
				ports: ports.map(({ name, protocol, port, target, nodePort }) => ({
					...{ name, protocol, port, targetPort: target },
					...(nodePort === undefined ? {} : { nodePort }),
				})),
			},
		};
		return endpoints.length === 0 ? [service] : [service, sliceObject({ name, ports, endpoints })];
	});
}

/** The EndpointSlice of a Service. */
function sliceObject({
	name,
	ports,
	endpoints,
}: Pick<ServicePlan, "name" | "ports" | "endpoints">): object {
	return {
		apiVersion: "discovery.k8s.io/v1",
		kind: "EndpointSlice",
		metadata: {
			...{ name: `${name}-1`, namespace: "default" },
			labels: { "kubernetes.io/service-name": name },
		},
		addressType: "IPv4",
		ports: ports.map(({ name, protocol, target }) => ({ name, protocol, port: target })),
		endpoints: endpoints.map((address) => ({
			addresses: [address],
			conditions: { ready: true, serving: true, terminating: false },
		})),
	};
}
