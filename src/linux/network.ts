/** The links, addresses and routes of this Node's kernel. Read by src/reconcile. */
export interface Network {
	interfaces: NetworkInterface[];
	/** Unicast routes of the main table, both families. */
	routes: NetworkRoute[];
}

export interface NetworkInterface {
	name: string;
	index: number;
	/** "": the link has none. */
	mac: string;
	mtu: number;
	up: boolean;
	addresses: InterfaceAddress[];
	/** The kernel's link kind ("veth", "bridge", "dummy", ...); absent for hardware. */
	kind?: string;
}

/** Canonical text; the on-link prefix is `address/prefixLength`. */
export interface InterfaceAddress {
	address: string;
	prefixLength: number;
}

export interface NetworkRoute {
	/** Canonical text; the default routes are "0.0.0.0/0" and "::/0". */
	prefix: string;
	/** Absent: the destination is on-link. */
	gateway?: string;
	device: string;
	source?: string;
	/** The MTU of the route; absent: that of the device applies. */
	mtu?: number;
	/** The lowest wins. */
	metric: number;
}

/** True for devices made by Fairway, none of which leads to another Node. */
export function isFairways(name: string): boolean {
	return /^fairway([01]|[0-9a-f]{8})$/.test(name);
}
