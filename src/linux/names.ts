/** Names of Fairway's kernel objects, by which a new process recognises them. */

/** The Node's device: gateway addresses, and routes to peers' Pods. */
export const HOST_DEVICE = "fairway0";

/** The kernel's own. */
export const LOOPBACK_DEVICE = "lo";

/** The device that makes the kernel merge tunnel packets. */
export const GRO_DEVICE = "fairway1";

/** rtm_protocol of all of Fairway's kernel routes. */
export const ROUTE_PROTOCOL = 170;

/** Priority of clsact filters: on Pods' interfaces, and on kernels without tcx links. */
export const FILTER_PRIORITY = 0xfa1c;
export const FILTER_HANDLE = 1;

/** True for the host side of a Pod's veth: "fairway" and eight hex digits. */
export function isPodInterface(name: string): boolean {
	return /^fairway[0-9a-f]{8}$/.test(name);
}

/** True for devices that compile never takes as the transport interface. */
export { isFairways as isOwnDevice } from "./network.js";
