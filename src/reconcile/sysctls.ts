/**
 * Every sysctl that Fairway writes, in its own network namespace. They stay after `fairway
 * cleanup`: what else on this Node relies on them cannot be known. A value that is right already
 * is not written, since some writes have effects of their own (ip_forward resets others).
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isOwnDevice } from "./names.js";

const ROOT = "/proc/sys";

export interface PortRange {
	/** Inclusive. */
	first: number;
	last: number;
}

interface Setting {
	/** With slashes: an interface's name may have dots. */
	path: string;
	/** The value to write, from the current one; equal: nothing to do. */
	value(current: string): string;
	reason: string;
}

/** The Node as a whole. In this order. */
function nodeSettings(snatPorts: PortRange): Setting[] {
	return [
		...acceptRouterAdvertisements(),
		{
			path: "net/ipv4/ip_forward",
			value: () => "1",
			reason: "packets between Pods and the outside, and those that eBPF leaves to the kernel",
		},
		{
			path: "net/ipv6/conf/all/forwarding",
			value: () => "1",
			reason: "the same for IPv6",
		},
		{
			path: "net/ipv4/ip_local_reserved_ports",
			value: (current) => mergePorts(current, snatPorts),
			reason: "the kernel gives no SNAT port to a socket that asks for any port (IPv6 too)",
		},
	];
}

/**
 * With forwarding, the kernel ignores router advertisements if accept_ra is 1, and forgets the default routes
 * from them. A Node that depends on them must keep them: 2 means "even when forwarding". Written before
 * forwarding is switched on; afterwards a 1 is intentional.
 */
function acceptRouterAdvertisements(): Setting[] {
	if (read("net/ipv6/conf/all/forwarding") !== "0") return [];
	return list("net/ipv6/conf")
		.filter((name) => name !== "all" && name !== "lo" && !isOwnDevice(name))
		.map((name) => ({
			path: `net/ipv6/conf/${name}/accept_ra`,
			value: (current) => (current === "1" ? "2" : current),
			reason: "router advertisements stay in force when forwarding is switched on",
		}));
}

/** fairway0, before it gets its addresses. */
function hostDeviceSettings(device: string): Setting[] {
	return [
		looseReversePath(device, "a peer's packet may come before the host route to that peer"),
		enableIPv6(device),
		{
			path: `net/ipv6/conf/${device}/accept_dad`,
			value: () => "0",
			reason: "gateway addresses are the same on no other link; waiting for DAD would lose packets",
		},
		{
			path: `net/ipv6/conf/${device}/accept_ra`,
			value: () => "0",
			reason: "no router is behind this device",
		},
	];
}

function podInterfaceSettings(device: string): Setting[] {
	return [
		looseReversePath(device, "from_pod checks the source, exactly"),
		enableIPv6(device),
		{
			path: `net/ipv6/conf/${device}/accept_ra`,
			value: () => "0",
			reason: "a Pod is no router to its Node",
		},
	];
}

function wireInterfaceSettings(device: string): Setting[] {
	return [
		looseReversePath(
			device,
			"a later fragment from a peer's Pod comes in here while the route to that Pod is fairway0",
		),
	];
}

function enableIPv6(device: string): Setting {
	return {
		path: `net/ipv6/conf/${device}/disable_ipv6`,
		value: () => "0",
		reason: "Pods may have IPv6 on a Node that has none of its own",
	};
}

/** The kernel uses the larger value of `all` and the interface; only strict mode (1) must be changed. */
function looseReversePath(device: string, reason: string): Setting {
	return {
		path: `net/ipv4/conf/${device}/rp_filter`,
		value: (current) =>
			Math.max(Number(current), Number(read("net/ipv4/conf/all/rp_filter") ?? 0)) === 1
				? "2"
				: current,
		reason,
	};
}

export interface SysctlChange {
	name: string;
	from: string;
	to: string;
	reason: string;
}

export interface SysctlProblem {
	name: string;
	message: string;
}

export interface SysctlResult {
	changes: SysctlChange[];
	problems: SysctlProblem[];
}

export const sysctls = {
	node: (snatPorts: PortRange): SysctlResult => applySettings(nodeSettings(snatPorts)),
	hostDevice: (device: string): SysctlResult => applySettings(hostDeviceSettings(device)),
	podInterface: (device: string): SysctlResult => applySettings(podInterfaceSettings(device)),
	wireInterface: (device: string): SysctlResult => applySettings(wireInterfaceSettings(device)),
};

function applySettings(settings: Setting[]): SysctlResult {
	const result: SysctlResult = { changes: [], problems: [] };
	for (const { path, value, reason } of settings) {
		// No such file: the kernel has no IPv6, or the device no longer exists. Neither needs the setting.
		const from = read(path);
		if (from === undefined) continue;
		const to = value(from);
		if (to === from) continue;
		const name = path.replaceAll("/", ".");
		try {
			writeFileSync(join(ROOT, path), to);
			result.changes.push({ name, from, to, reason });
		} catch (error) {
			const message = `Cannot set sysctl ${name}: wanted to write ${to}, ${(error as Error).message}`;
			result.problems.push({ name, message });
		}
	}
	return result;
}

function read(path: string): string | undefined {
	try {
		return readFileSync(join(ROOT, path), "utf8").trim();
	} catch {
		return undefined;
	}
}

function list(path: string): string[] {
	const directory = join(ROOT, path);
	return existsSync(directory) ? readdirSync(directory) : [];
}

/** "8080,9000-9100" and a range → the union, in the kernel's own notation. */
export function mergePorts(current: string, range: PortRange): string {
	const ranges = current
		.split(",")
		.filter((text) => text !== "")
		.map((text) => {
			const [first = 0, last = first] = text.split("-").map(Number);
			return { first, last };
		});
	const merged: PortRange[] = [];
	for (const next of [...ranges, range].sort((a, b) => a.first - b.first)) {
		const previous = merged.at(-1);
		if (previous !== undefined && next.first <= previous.last + 1)
			previous.last = Math.max(previous.last, next.last);
		else merged.push({ ...next });
	}
	return merged
		.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`))
		.join(",");
}
