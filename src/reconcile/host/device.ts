/**
 * fairway0: carries the gateway addresses, and receives what the Node's own stack sends to peers' Pods
 * (from_host takes it at the device's egress; the device never transmits).
 */

import type { IpRoute } from "../../linux/iproute.js";
import { IpRouteError } from "../../linux/iproute.js";
import { HOST_DEVICE } from "../../linux/names.js";
import { IFF } from "../../linux/netlink.js";
import { readAddresses, readLink } from "../../linux/netlink_query.js";
import type { Log } from "../../text/log.js";
import { applyOffloads, type Offload } from "./offloads.js";
import { sysctls } from "./sysctls.js";

export interface HostDeviceState {
	/** Without prefix length. */
	addresses: readonly string[];
	mac: string;
	mtu: number;
}

/**
 * Kinds in order of preference. All drop what is transmitted and always have a carrier. Small kernels have
 * no dummy; an ifb drops everything that was not redirected to it, which is the same here, and a bridge
 * without ports has nowhere to flood.
 */
const KINDS = ["dummy", "ifb", "bridge"] as const;

interface DeviceLink {
	ifindex: number;
	flags: string[];
	mtu: number;
	address: string;
	addr_info: { local: string; prefixlen: number; scope: string }[];
}

async function readDevice(): Promise<DeviceLink | undefined> {
	const link = await readLink(HOST_DEVICE);
	if (link === undefined) return undefined;
	const { index: ifindex, mtu, mac: address, flags } = link;
	const set = (["UP", "NOARP"] as const).filter((flag) => (flags & IFF[flag]) !== 0);
	const addr_info = (await readAddresses(ifindex)).map((one) => ({
		local: one.address,
		prefixlen: one.prefixLength,
		scope: one.isLinkLocal ? "link" : "global",
	}));
	return { ifindex, flags: set, mtu, address, addr_info };
}

/** Creates the device with its MAC, because an ifb does not accept another later. */
async function create(ip: IpRoute, mac: string, log: Log): Promise<DeviceLink> {
	for (const kind of KINDS) {
		try {
			await ip.run("link", "add", "name", HOST_DEVICE, "address", mac, "type", kind);
		} catch (error) {
			if (error instanceof IpRouteError && error.code === "EOPNOTSUPP") continue;
			throw error;
		}
		const device = await readDevice();
		if (device === undefined) break;
		log.info({ interface: HOST_DEVICE, kind, ifindex: device.ifindex }, "created fairway0");
		return device;
	}
	throw new Error(`Cannot make ${HOST_DEVICE}: the kernel supports none of ${KINDS.join(", ")}`);
}

/** The device with this MAC. A device that cannot change its MAC is recreated; its routes are written again. */
async function deviceWithMac(ip: IpRoute, mac: string, log: Log): Promise<DeviceLink> {
	const device = await readDevice();
	if (device === undefined) return create(ip, mac, log);
	if (device.address === mac) return device;
	try {
		await ip.run("link", "set", "dev", HOST_DEVICE, "address", mac);
		return { ...device, address: mac };
	} catch (error) {
		if (!(error instanceof IpRouteError) || error.code !== "EOPNOTSUPP") throw error;
		await ip.run("link", "del", "dev", HOST_DEVICE);
		return create(ip, mac, log);
	}
}

/**
 * Brings the device to the desired state, writing only differences, and returns its index. Throws what
 * fails; another call continues from there.
 */
export async function applyHostDevice(
	ip: IpRoute,
	wanted: HostDeviceState,
	log: Log,
): Promise<number> {
	const device = await deviceWithMac(ip, wanted.mac, log);
	for (const problem of sysctls.hostDevice(HOST_DEVICE).problems)
		log.warn({ sysctl: problem.name, err: problem.message }, "cannot set a sysctl");
	const failures = await ip.batch(changes(device, wanted));
	if (failures.length > 0) {
		const said = failures.map(({ command, message }) => `${command}: ${message}`).join("; ");
		throw new Error(`Cannot set up ${HOST_DEVICE}: ${said}`);
	}
	await applyOffloads(HOST_DEVICE, OFFLOADS, log);
	return device.ifindex;
}

const OFFLOADS: readonly Offload[] = [
	{
		feature: "tx-sctp-segmentation",
		value: "off",
		reason: "no tunnel can carry SCTP packets in bundles",
	},
];

/** The batch lines that bring the device to the desired state. */
export function changes(
	device: Omit<DeviceLink, "ifindex">,
	{ addresses, mtu }: HostDeviceState,
): string[] {
	const lines: string[] = [];
	const set = (what: string) => lines.push(`link set dev ${HOST_DEVICE} ${what}`);
	const up = device.flags.includes("UP");
	// No link-local address: no neighbour or router discovery on this device.
	if (!up) set("addrgenmode none");
	if (!device.flags.includes("NOARP")) set("arp off");
	if (device.mtu !== mtu) set(`mtu ${mtu}`);
	if (!up) set("up");
	const length = (address: string) => (address.includes(":") ? 128 : 32);
	const present = new Set<string>();
	const superfluous: string[] = [];
	for (const { local, prefixlen, scope } of device.addr_info) {
		if (scope === "link") continue;
		const removal = `address del ${local}/${prefixlen} dev ${HOST_DEVICE}`;
		if (!addresses.includes(local)) superfluous.push(removal);
		// The kernel accepts an IPv6 address only once, whatever its prefix length.
		else if (prefixlen !== length(local)) lines.push(removal);
		else present.add(local);
	}
	// Additions come first, so that there is always a gateway address.
	for (const address of addresses) {
		if (present.has(address)) continue;
		const nodad = address.includes(":") ? " nodad" : "";
		lines.push(`address add ${address}/${length(address)} dev ${HOST_DEVICE}${nodad}`);
	}
	lines.push(...superfluous);
	return lines;
}

export async function removeHostDevice(ip: IpRoute): Promise<boolean> {
	if ((await readDevice()) === undefined) return false;
	await ip.run("link", "del", "dev", HOST_DEVICE);
	return true;
}
