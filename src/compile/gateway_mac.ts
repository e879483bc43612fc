import { nodeHash } from "../cluster/node_hash.js";

/** Locally administered, unicast, and the same after every restart: Pods keep it as neighbour. */
export function gatewayMac(nodeName: string): string {
	const digits = nodeHash(nodeName).toString(16).padStart(16, "0").slice(-10);
	return `06:${digits.match(/../g)!.join(":")}`;
}
