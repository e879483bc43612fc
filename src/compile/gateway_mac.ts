import { nodeHash } from "../cluster/node_hash.js";

/** A locally administered unicast MAC, the same after every restart, because Pods keep it as neighbour. */
export function gatewayMac(nodeName: string): string {
	const digits = nodeHash(nodeName).toString(16).padStart(16, "0").slice(-10);
	return `06:${digits.match(/../g)!.join(":")}`;
}
