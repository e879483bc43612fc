/** The EndpointSlices that Kubernetes would make for a Service of the Pods that it selects. Pure. */
import { familyOf } from "../tables/address.js";
import type { EndpointRecord, EndpointSliceObject, SlicePort } from "./endpoint_slice_object.js";
import type { PodObject } from "./pod_object.js";
import type { ServiceObject, ServicePort } from "./service_object.js";
import { NO_TEXTS, shareTexts } from "./shared.js";

/** A Pod that is selected, where it is. */
export interface SelectedPod {
	/** "namespace/name" */
	key: string;
	pod: PodObject;
	/** Canonical, in order of preference. */
	addresses: readonly string[];
	/** "": not on any. */
	node: string;
	/** "": its Node says none. */
	zone: string;
}

const PROTOCOLS: Readonly<Record<number, string>> = { 6: "TCP", 17: "UDP", 132: "SCTP" };

/**
 * One slice for each family and each set of target ports that Pods have. No object of the cluster can
 * have the slices' names.
 *
 * @param pods those whose labels match the selector, in a stable order
 */
export function slicesOfPods(
	service: ServiceObject,
	pods: readonly SelectedPod[],
): EndpointSliceObject[] {
	const slices = new Map<string, EndpointSliceObject & { endpoints: EndpointRecord[] }>();
	for (const selected of pods) {
		if (selected.pod.ended) continue;
		const ports = service.ports.flatMap((port) => targetOf(port, selected.pod));
		for (const family of [4, 6] as const) {
			const address = selected.addresses.find((one) => familyOf(one) === family);
			if (address === undefined) continue;
			const group = `IPv${family}.${ports.map(({ name, port }) => `${name}:${port}`).join()}`;
			let slice = slices.get(group);
			if (slice === undefined) {
				const name = `${service.name}#${group}`;
				const { namespace } = service;
				slice = { namespace, name, service: service.name, family, ports, endpoints: [] };
				slices.set(group, slice);
			}
			slice.endpoints.push(endpointOf(service, selected, address));
		}
	}
	return [...slices.values()];
}

/** None: the Pod has no port of that name. */
function targetOf(port: ServicePort, pod: PodObject): SlicePort[] {
	const { name, protocol, targetPort } = port;
	const number =
		typeof targetPort === "number"
			? targetPort
			: pod.ports.find((one) => one.name === targetPort && one.protocol === PROTOCOLS[protocol])
					?.port;
	return number === undefined ? [] : [{ name, protocol, port: number }];
}

function endpointOf(
	service: ServiceObject,
	selected: SelectedPod,
	address: string,
): EndpointRecord {
	const { pod, node, zone, key } = selected;
	const { trafficDistribution, publishNotReadyAddresses } = service;
	const isReady = publishNotReadyAddresses || (pod.isReady && !pod.isTerminating);
	const hasZone = isReady && trafficDistribution !== undefined && zone !== "";
	const hasNode = isReady && trafficDistribution === "PreferSameNode" && node !== "";
	return {
		address,
		isReady,
		isServing: pod.isReady,
		isTerminating: pod.isTerminating,
		node,
		zone,
		hintZones: hasZone ? shareTexts([zone]) : NO_TEXTS,
		hintNodes: hasNode ? shareTexts([node]) : NO_TEXTS,
		target: key,
	};
}
