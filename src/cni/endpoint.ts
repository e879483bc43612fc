/**
 * A local endpoint: one network interface of one Pod, as the CNI plugin attached it. This is the
 * record that the agent keeps under RUN_DIR/endpoints and that everything else reads.
 */
import { createHash } from "node:crypto";

export interface Endpoint {
	/** Name of the CNI network that it was attached to. */
	network: string;
	containerId: string;
	/** The interface's name inside the Pod, mostly "eth0". */
	ifName: string;
	/** Path of the Pod's network namespace, as the runtime gave it. */
	netns: string;
	/** Canonical text without prefix length, IPv4 before IPv6, at most one of each. */
	addresses: string[];
	/** The default gateways inside the Pod, in the order of `addresses`. */
	gateways: string[];
	/** Of the Pod's side of the veth. */
	mac: string;
	/** The host's side of the veth. */
	hostInterface: string;
	/** Of both sides of the veth. */
	mtu: number;
	/** ISO 8601. */
	attachedAt: string;
	/** The Pod's Kubernetes namespace and name, where CNI_ARGS gave them. */
	namespace?: string;
	name?: string;
}

export type EndpointId = Pick<Endpoint, "network" | "containerId" | "ifName">;

/** The primary key that the CNI specification prescribes, as one string. */
export function endpointKey(e: EndpointId): string {
	return `${e.network}/${e.containerId}/${e.ifName}`;
}

/**
 * Names for the host's side of a veth, in order of preference: "fairway" and eight hex digits of
 * the SHA-256 of container id and interface. There is more than one because 32 bits collide now
 * and then among the hundreds of Pods that a large Node has.
 */
export function hostInterfaceNames(containerId: string, ifName: string): string[] {
	const digest = createHash("sha256").update(`${containerId}/${ifName}`).digest("hex");
	const digits = digest.match(/.{8}/g) ?? [];
	return digits.map((eight) => `fairway${eight}`);
}

/** The MAC of the Pod's side: unicast, locally administered, the same whenever it is asked for. */
export function podMac(id: EndpointId): string {
	const digest = createHash("sha256")
		.update(`mac ${endpointKey(id)}`)
		.digest();
	digest[0] = ((digest[0] ?? 0) & 0xfc) | 0x02;
	return digest.toString("hex", 0, 6).replace(/..(?=.)/g, "$&:");
}

/** For messages: "Pod default/web" where that is known. */
export function describe(e: EndpointId & Pick<Endpoint, "namespace" | "name">): string {
	if (e.namespace !== undefined && e.name !== undefined) return `Pod ${e.namespace}/${e.name}`;
	return `${e.ifName} of container ${e.containerId}`;
}
