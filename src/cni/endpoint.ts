/**
 * A local endpoint: one network interface of one Pod, attached by the CNI plugin. This is the record that
 * the agent keeps under RUN_DIR/endpoints.
 */
import { createHash } from "node:crypto";

export interface Endpoint {
	/** Name of the CNI network. */
	network: string;
	containerId: string;
	/** The interface's name inside the Pod, usually "eth0". */
	ifName: string;
	/** Path of the Pod's network namespace, as given by the runtime. */
	netns: string;
	/** Canonical text without prefix length, IPv4 before IPv6, at most one of each. */
	addresses: string[];
	/** The default gateways inside the Pod, in the order of `addresses`. */
	gateways: string[];
	/** MAC of the Pod's side of the veth. */
	mac: string;
	/** The host's side of the veth. */
	hostInterface: string;
	/** MTU of both sides of the veth. */
	mtu: number;
	/** ISO 8601. */
	attachedAt: string;
	/** The same by monotonicMs; absent in records of earlier versions. */
	attachedMs?: number;
	/** The Pod's Kubernetes namespace and name, if CNI_ARGS has them. */
	namespace?: string;
	name?: string;
	/** K8S_POD_UID: tells the Pod from a later one of the same name. Absent in records of earlier versions. */
	uid?: string;
	/** The Pod asks for a limit of its bandwidth, which Fairway does not apply. */
	wantsBandwidthLimit?: true;
}

export type EndpointId = Pick<Endpoint, "network" | "containerId" | "ifName">;

/** The primary key defined by the CNI specification, as one string. */
export function endpointKey(e: EndpointId): string {
	return `${e.network}/${e.containerId}/${e.ifName}`;
}

/**
 * Candidate names for the host side of a veth, in order of preference: "fairway" and eight hex digits of the
 * SHA-256 of container id and interface. There are several because 32 bits occasionally collide among the
 * hundreds of Pods of a large Node.
 */
export function hostInterfaceNames(containerId: string, ifName: string): string[] {
	const digest = createHash("sha256").update(`${containerId}/${ifName}`).digest("hex");
	const digits = digest.match(/.{8}/g) ?? [];
	return digits.map((eight) => `fairway${eight}`);
}

/** The MAC of the Pod's side: unicast, locally administered, always the same for an endpoint. */
export function podMac(id: EndpointId): string {
	const digest = createHash("sha256")
		.update(`mac ${endpointKey(id)}`)
		.digest();
	digest[0] = ((digest[0] ?? 0) & 0xfc) | 0x02;
	return digest.toString("hex", 0, 6).replace(/..(?=.)/g, "$&:");
}

/** For messages: "Pod default/web", if known. */
export function describe(e: EndpointId & Pick<Endpoint, "namespace" | "name">): string {
	if (e.namespace !== undefined && e.name !== undefined) return `Pod ${e.namespace}/${e.name}`;
	return `${e.ifName} of container ${e.containerId}`;
}
