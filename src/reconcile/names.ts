/** How Fairway's kernel objects are named, and recognised by a process with no memory. */

/** The Node's device: gateway addresses, and the Node's way to its peers' Pods. */
export const HOST_DEVICE = "fairway0";

/** Has the kernel merge what comes in tunnels. */
export const GRO_DEVICE = "fairway1";

/** rtm_protocol of every kernel route that is Fairway's. */
export const ROUTE_PROTOCOL = 170;

/** Of clsact filters, where the kernel has no tcx links. */
export const FILTER_PRIORITY = 0xfa1c;
export const FILTER_HANDLE = 1;

/** The host's side of a Pod's veth: "fairway" and eight hex digits. */
export function isPodInterface(name: string): boolean {
	return /^fairway[0-9a-f]{8}$/.test(name);
}

export function isOwnDevice(name: string): boolean {
	return name === HOST_DEVICE || name === GRO_DEVICE || isPodInterface(name);
}
