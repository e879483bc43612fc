/**
 * Changes and queries of links, addresses, routes and neighbours through rtnetlink(7), in this network namespace
 * or another. Used for every Pod and every apply, where a process of `ip` (iproute.ts) would cost milliseconds, most of
 * them in the event loop.
 */
import { isIPv6 } from "node:net";
import { runSteps, type Step, type StepResult } from "#native";
import { parseAddress } from "../tables/address.js";
import { attribute, bytes, mac, message, NLM, RTM, text, u32 } from "./netlink_message.js";

/** One change, and its name for messages: "link del dev fairway1a2b3c4d". */
export interface Change {
	what: string;
	step: Step;
}

/** Thrown if the kernel refuses a change. */
export class NetlinkError extends Error {
	override readonly name = "NetlinkError";
	/** `what` of the change. */
	readonly what: string;
	/** "EEXIST" */
	readonly code: string;
	/** The kernel's words: "File exists". */
	readonly detail: string;

	constructor(what: string, code: string, detail: string) {
		super(`Cannot run "${what}": ${detail}`);
		this.what = what;
		this.code = code;
		this.detail = detail;
	}
}

/**
 * Makes these changes in order, until one fails.
 *
 * @param netns path of a network namespace; default: this process's
 * @throws NetlinkError
 */
export async function change(changes: readonly Change[], netns?: string): Promise<StepResult[]> {
	const steps = changes.map(({ step }) => step);
	const results = await runSteps(steps, netns);
	const last = results.at(-1);
	if (last === undefined || last.errno === 0) return results;
	const { what } = changes[results.length - 1]!;
	throw new NetlinkError(what, last.code ?? "", last.message ?? "");
}

/* ------------------------------------------------------ names of the kernel */

const AF_INET = 2;
const AF_INET6 = 10;

export const IFLA = {
	ADDRESS: 1,
	IFNAME: 3,
	MTU: 4,
	LINKINFO: 18,
	IFALIAS: 20,
	AF_SPEC: 26,
	NET_NS_FD: 28,
} as const;
/** In IFLA_LINKINFO. */
export const INFO = { KIND: 1, DATA: 2 } as const;
const VETH_INFO_PEER = 1;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
export const IFF = { UP: 1, NOARP: 0x80, LOWER_UP: 0x10000 } as const;

export const IFA = { ADDRESS: 1, LOCAL: 2 } as const;
const IFA_F_NODAD = 2;

export const NDA = { DST: 1, LLADDR: 2 } as const;
export const NUD_FAILED = 0x20;
export const NUD_PERMANENT = 0x80;

export const RTA = {
	DST: 1,
	SRC: 2,
	IIF: 3,
	OIF: 4,
	GATEWAY: 5,
	PRIORITY: 6,
	PREFSRC: 7,
	METRICS: 8,
	TABLE: 15,
	VIA: 18,
	IP_PROTO: 27,
	SPORT: 28,
	DPORT: 29,
} as const;
export const RTAX_MTU = 2;
export const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_LINK = 253;
/** Matches any scope when a route is deleted. */
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;
const RTNH_F_ONLINK = 4;

/* ------------------------------------------------------ changes */

/** struct ifinfomsg */
export function linkHeader(index = 0, flags = 0, changed = 0): Buffer {
	return Buffer.concat([bytes(0, 0, 0, 0), u32(index), u32(flags), u32(changed)]);
}

/** 4 or 16 bytes. */
export function address(value: string): Buffer {
	const all = parseAddress(value) ?? Buffer.alloc(16);
	return isIPv6(value) ? all : all.subarray(12);
}

export function family(value: string): number {
	return isIPv6(value) ? AF_INET6 : AF_INET;
}

export function lengthOf(value: string): number {
	return isIPv6(value) ? 128 : 32;
}

export interface VethEnd {
	name: string;
	mac: string;
}

/** A veth, one end here, the other in a network namespace. */
export function addVeth(host: VethEnd, pod: VethEnd, mtu: number, netns: string): Change {
	const end = (one: VethEnd) => [
		attribute(IFLA.IFNAME, text(one.name)),
		attribute(IFLA.MTU, u32(mtu)),
		attribute(IFLA.ADDRESS, mac(one.mac)),
	];
	const descriptor = attribute(IFLA.NET_NS_FD, u32(0));
	// The descriptor comes last of all.
	const peer = attribute(VETH_INFO_PEER, linkHeader(), ...end(pod), descriptor);
	const info = attribute(
		IFLA.LINKINFO,
		attribute(INFO.KIND, text("veth")),
		attribute(INFO.DATA, peer),
	);
	const flags = NLM.ACK | NLM.CREATE | NLM.EXCL;
	const whole = message(RTM.NEWLINK, flags, linkHeader(), ...end(host), info);
	return {
		what: `link add ${host.name} type veth peer name ${pod.name} netns ${netns}`,
		step: { message: whole, namespace: netns, namespaceAt: whole.length - 4 },
	};
}

/** Before it is up: an alias, and no link-local address. */
export function nameLink(name: string, alias: string): Change {
	const mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes(IN6_ADDR_GEN_MODE_NONE));
	return {
		what: `link set dev ${name} alias "${alias}" addrgenmode none`,
		step: {
			message: message(
				...[RTM.NEWLINK, NLM.ACK, linkHeader(), attribute(IFLA.IFNAME, text(name))],
				attribute(IFLA.IFALIAS, text(alias)),
				attribute(IFLA.AF_SPEC, attribute(AF_INET6, mode)),
			),
		},
	};
}

export function setUp(name: string): Change {
	const header = linkHeader(0, IFF.UP, IFF.UP);
	const named = attribute(IFLA.IFNAME, text(name));
	return {
		what: `link set dev ${name} up`,
		step: { message: message(RTM.NEWLINK, NLM.ACK, header, named) },
	};
}

export function deleteLink(name: string): Change {
	const named = attribute(IFLA.IFNAME, text(name));
	return {
		what: `link del dev ${name}`,
		step: { message: message(RTM.DELLINK, NLM.ACK, linkHeader(), named) },
	};
}

/** A host address, usable at once: without duplicate address detection. */
export function addAddress(value: string, index: number, name: string): Change {
	const header = bytes(family(value), lengthOf(value), isIPv6(value) ? IFA_F_NODAD : 0, 0);
	const flags = NLM.ACK | NLM.CREATE | NLM.EXCL;
	return {
		what: `addr add ${value}/${lengthOf(value)} dev ${name}`,
		step: {
			message: message(
				...[RTM.NEWADDR, flags, header, u32(index)],
				attribute(IFA.LOCAL, address(value)),
				attribute(IFA.ADDRESS, address(value)),
			),
		},
	};
}

/** A permanent neighbour. */
export function setNeighbour(value: string, lladdr: string, index: number, name: string): Change {
	const header = [bytes(family(value), 0, 0, 0), u32(index), bytes(NUD_PERMANENT, 0, 0, 0)];
	const flags = NLM.ACK | NLM.CREATE | NLM.REPLACE;
	return {
		what: `neigh replace ${value} dev ${name} lladdr ${lladdr} nud permanent`,
		step: {
			message: message(
				...[RTM.NEWNEIGH, flags, ...header],
				attribute(NDA.DST, address(value)),
				attribute(NDA.LLADDR, mac(lladdr)),
			),
		},
	};
}

/** struct rtmsg */
function routeHeader(
	...[family, length, protocol, scope, flags]: [number, number, number, number, number]
): Buffer {
	const kind = bytes(family, length, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST);
	return Buffer.concat([kind, u32(flags)]);
}

/** A route to one address, out of a device. */
export function setHostRoute(value: string, protocol: number, index: number, name: string): Change {
	const scope = isIPv6(value) ? 0 : RT_SCOPE_LINK;
	const header = routeHeader(family(value), lengthOf(value), protocol, scope, 0);
	return {
		what: `route replace ${value}/${lengthOf(value)} dev ${name} proto ${protocol}`,
		step: {
			message: message(
				...[RTM.NEWROUTE, NLM.ACK | NLM.CREATE | NLM.REPLACE, header],
				attribute(RTA.DST, address(value)),
				attribute(RTA.OIF, u32(index)),
			),
		},
	};
}

export function deleteHostRoute(value: string, protocol: number, index: number): Change {
	const header = routeHeader(family(value), lengthOf(value), protocol, RT_SCOPE_NOWHERE, 0);
	return {
		what: `route del ${value}/${lengthOf(value)} proto ${protocol}`,
		step: {
			message: message(
				...[RTM.DELROUTE, NLM.ACK, header],
				attribute(RTA.DST, address(value)),
				attribute(RTA.OIF, u32(index)),
			),
		},
	};
}

/** A default route by a gateway outside every prefix of the device. Fails if a default route exists. */
export function addDefaultRoute(gateway: string, index: number, name: string): Change {
	const header = routeHeader(family(gateway), 0, RTPROT_BOOT, 0, RTNH_F_ONLINK);
	return {
		what: `route add ${isIPv6(gateway) ? "::/0" : "0.0.0.0/0"} via ${gateway} dev ${name} onlink`,
		step: {
			message: message(
				...[RTM.NEWROUTE, NLM.ACK | NLM.CREATE | NLM.EXCL, header],
				attribute(RTA.GATEWAY, address(gateway)),
				attribute(RTA.OIF, u32(index)),
			),
		},
	};
}

/**
 * A file of /proc/sys/net, of the namespace that the change is made in.
 *
 * @param optional a kernel without it is no failure
 */
export function setSysctl(path: string, value: string, optional = false): Change {
	const file = `/proc/sys/net/${path}`;
	return { what: `sysctl ${path}=${value}`, step: { file, text: value, optional } };
}

/** Features that have another name in ethtool(8). */
const KERNEL_FEATURE: Readonly<Record<string, string>> = { "generic-receive-offload": "rx-gro" };

/** @param feature as in `ethtool -k` */
export function setOffload(device: string, feature: string, on: boolean): Change {
	const what = `ethtool -K ${device} ${feature} ${on ? "on" : "off"}`;
	return { what, step: { device, feature: KERNEL_FEATURE[feature] ?? feature, on } };
}
