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
	/** What both ends of the veth have, or are to get. */
	mtu: number;
	/** The Pod's Kubernetes namespace and name, where CNI_ARGS gave them. */
	namespace?: string;
	name?: string;
}

/** The primary key that the CNI specification prescribes, as one string. */
export function endpointKey(e: Pick<Endpoint, "network" | "containerId" | "ifName">): string {
	return `${e.network}/${e.containerId}/${e.ifName}`;
}

const HOST_INTERFACE_PREFIX = "fairway";

/**
 * Names for the host's side of a veth, in order of preference: "fairway" and eight hex digits of
 * the SHA-256 of container id and interface. There is more than one because 32 bits collide now
 * and then among the hundreds of Pods that a large Node has.
 */
export function hostInterfaceNames(containerId: string, ifName: string): string[] {
	const digest = createHash("sha256").update(`${containerId}/${ifName}`).digest("hex");
	const digits = digest.match(/.{8}/g) ?? [];
	return digits.map((eight) => `${HOST_INTERFACE_PREFIX}${eight}`);
}

/** True for a name that hostInterfaceNames could have made: how cleanup knows its own. */
export function isHostInterface(name: string): boolean {
	return /^fairway[0-9a-f]{8}$/.test(name);
}
