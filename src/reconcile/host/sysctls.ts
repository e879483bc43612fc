/**
 * Every sysctl that Fairway writes, in its own network namespace. They stay after `fairway
 * cleanup`: what else on this Node relies on them cannot be known. Only the SNAT ports leave the list
 * of reserved ones. A value that is right already
 * is not written, since some writes have effects of their own (ip_forward resets others).
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isOwnDevice } from "../../linux/names.js";
import type { PortRange } from "../../tables/tables.js";
import { formatPorts, parsePorts } from "./port_set.js";
import { othersPorts, type ReservedPorts, reserve } from "./reserved_ports.js";

const ROOT = "/proc/sys";

/** In force where the configuration's range cannot be. */
const DEFAULT_SNAT_PORTS: PortRange = { first: 49152, last: 65535 };

interface Setting {
	/** With slashes: an interface's name may have dots. */
	path: string;
	/** The value to write, from the current one; equal: nothing to do. */
	value(current: string): string;
	reason: string;
}

/** The Node as a whole. In this order. */
function nodeSettings(): Setting[] {
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
		{
			path: `net/ipv4/conf/${device}/accept_local`,
			value: () => "1",
			reason: "answers of a NodePort to the Node's own processes come from the Node's own address",
		},
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
		...announceNewMac(device),
	];
}

/** Otherwise peers find out when their neighbour entries expire, up to a minute later. */
function announceNewMac(device: string): Setting[] {
	const reason = "peers learn at once when this Node's MAC changes";
	return [
		{ path: `net/ipv4/conf/${device}/arp_notify`, value: () => "1", reason },
		{ path: `net/ipv6/conf/${device}/ndisc_notify`, value: () => "1", reason },
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
	node: (): SysctlResult => applySettings(nodeSettings()),
	/** Returns the range then in force, and the reason where it is not `wanted`. */
	snatPorts: reserveSnatPorts,
	/** Takes the SNAT ports out of the reserved ones, as far as they are ours. */
	releaseSnatPorts,
	hostDevice: (device: string): SysctlResult => applySettings(hostDeviceSettings(device)),
	podInterface: (device: string): SysctlResult => applySettings(podInterfaceSettings(device)),
	wireInterface: (device: string): SysctlResult => applySettings(wireInterfaceSettings(device)),
};

const RESERVED = "net/ipv4/ip_local_reserved_ports";
const LOCAL = "net/ipv4/ip_local_port_range";
const NOTHING: SysctlResult = { changes: [], problems: [] };

/**
 * Reserves the SNAT ports in place of the former ones.
 *
 * @param former what node_config says is in use, where there is no record; undefined: nothing
 */
function reserveSnatPorts(
	wanted: PortRange,
	former: PortRange | undefined,
	record: ReservedPorts,
): SysctlResult & { range: PortRange } {
	const [current, local] = [read(RESERVED), read(LOCAL)];
	if (current === undefined || local === undefined) return { ...NOTHING, range: wanted };
	const [first = 0, last = 0] = local.split(/\s+/).map(Number);
	const ours = record.read() ?? (former && { range: former, others: [] });
	const ask = (range: PortRange) => reserve(parsePorts(current), ours, range, { first, last });
	let range = wanted;
	let asked = ask(range);
	const problems: SysctlProblem[] = [];
	if ("refusal" in asked) {
		// What is in force stays; of a version that asked for no room that may be too much as well.
		for (range of [former ?? DEFAULT_SNAT_PORTS, DEFAULT_SNAT_PORTS]) {
			problems[0] = {
				name: nameOf(RESERVED),
				message: `${asked.refusal}; SNAT uses ${range.first}-${range.last}`,
			};
			const instead = ask(range);
			if (!("refusal" in instead)) {
				asked = instead;
				break;
			}
		}
		if ("refusal" in asked) return { changes: [], problems, range };
	}
	const reserved = asked;
	const to = formatPorts(reserved.ports);
	if (!isDeepStrictEqual(record.read(), reserved.ours)) record.write(reserved.ours);
	const result = applySettings([
		{
			path: RESERVED,
			value: () => to,
			reason: "the kernel gives no SNAT port to a socket that asks for any port (IPv6 too)",
		},
	]);
	return { changes: result.changes, problems: [...problems, ...result.problems], range };
}

function releaseSnatPorts(record: ReservedPorts): SysctlResult {
	const current = read(RESERVED);
	const ours = record.read();
	if (current === undefined || ours === undefined) return NOTHING;
	const to = formatPorts(othersPorts(parsePorts(current), ours));
	const reason = "they are no SNAT ports any more";
	// The kernel takes an empty list as a line only.
	const result = applySettings([{ path: RESERVED, value: () => to || "\n", reason }]);
	if (result.problems.length === 0) record.forget();
	return result;
}

function nameOf(path: string): string {
	return path.replaceAll("/", ".");
}

function applySettings(settings: Setting[]): SysctlResult {
	const result: SysctlResult = { changes: [], problems: [] };
	for (const { path, value, reason } of settings) {
		// No such file: the kernel has no IPv6, or the device no longer exists. Neither needs the setting.
		const from = read(path);
		if (from === undefined) continue;
		const to = value(from);
		if (to === from) continue;
		const name = nameOf(path);
		try {
			writeFileSync(join(ROOT, path), to);
			result.changes.push({ name, from, to, reason });
		} catch (error) {
			// The device, and its sysctls with it, went meanwhile.
			if (read(path) === undefined) continue;
			const message = `Cannot set sysctl ${name}: expected to write ${to}, got ${(error as Error).message}`;
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
