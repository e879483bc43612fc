/**
 * Single look-ups of a route, a neighbour or a link through rtnetlink(7), in this network namespace. They block,
 * for some ten microseconds each, for callers that cannot wait.
 */
import { runStepsNow, type StepResult } from "#native";
import {
	address,
	family,
	lengthOf,
	linkHeader,
	NDA,
	NUD_FAILED,
	RTA,
	RTAX_MTU,
} from "./netlink.js";
import {
	attribute,
	attributesOf,
	bytes,
	macOf,
	message,
	messagesOf,
	NLM,
	RTM,
	u32,
} from "./netlink_message.js";
import { addressOf, decodeLinks, type Link } from "./netlink_query.js";

/** The fields of a packet by which routes and rules may select. */
export interface RouteQuery {
	destination: string;
	/** "": none. */
	source: string;
	/** The input device, or the output device. */
	input?: number;
	output?: number;
	/** With the two bits of ECN. */
	tos: number;
	/** 0: any. */
	protocol: number;
	sourcePort: number;
	destinationPort: number;
}

export interface FoundRoute {
	type: "unicast" | "blackhole" | "unreachable" | "prohibit" | "other";
	/** Index of the device; 0: none. */
	output: number;
	/** "": the destination is on-link. */
	gateway: string;
	/** The source address that the kernel would use; "": it gave none. */
	source: string;
	/** MTU of the route; undefined: that of the device applies. */
	mtu?: number;
}

/** rtm_type */
const TYPES: Readonly<Record<number, FoundRoute["type"]>> = {
	1: "unicast",
	6: "blackhole",
	7: "unreachable",
	8: "prohibit",
};
/** The types of routes by which the kernel refuses a packet. */
const REFUSALS: Readonly<Record<string, FoundRoute["type"]>> = {
	EINVAL: "blackhole",
	EHOSTUNREACH: "unreachable",
	EACCES: "prohibit",
};
/** struct rtmsg */
const ROUTE_HEADER = 12;
/** struct ndmsg */
const NEIGHBOUR_HEADER = 12;
/** RTA_VIA begins with the family. */
const VIA_FAMILY = 2;

/** The route of a packet. undefined: there is none, or the kernel does not say which. */
export function lookUpRoute(query: RouteQuery): FoundRoute | undefined {
	const result = ask(routeRequest(query));
	if (result.errno !== 0) {
		const type = REFUSALS[result.code ?? ""];
		return type && { type, output: 0, gateway: "", source: "" };
	}
	for (const [type, body] of messagesOf(result.data)) if (type === RTM.NEWROUTE) return route(body);
	return undefined;
}

/** The MAC of a neighbour; undefined: the kernel does not know it. */
export function lookUpNeighbour(value: string, index: number): string | undefined {
	const header = [bytes(family(value), 0, 0, 0), u32(index), bytes(0, 0, 0, 0)];
	const destination = attribute(NDA.DST, address(value));
	const result = ask(message(RTM.GETNEIGH, NLM.ACK, ...header, destination));
	for (const [type, body] of messagesOf(result.data)) {
		if (type !== RTM.NEWNEIGH || (body.readUInt16LE(8) & NUD_FAILED) !== 0) continue;
		const mac = new Map(attributesOf(body.subarray(NEIGHBOUR_HEADER))).get(NDA.LLADDR);
		if (mac !== undefined) return macOf(mac);
	}
	return undefined;
}

/** undefined: there is no such device. */
export function lookUpLink(index: number): Link | undefined {
	return decodeLinks(ask(message(RTM.GETLINK, NLM.ACK, linkHeader(index))))[0];
}

function ask(request: Buffer): StepResult {
	return runStepsNow([{ message: request }])[0]!;
}

function routeRequest(query: RouteQuery): Buffer {
	const { destination, source, input, output, tos, protocol, sourcePort, destinationPort } = query;
	const length = lengthOf(destination);
	const header = bytes(family(destination), length, source === "" ? 0 : length, tos, 0, 0, 0, 0);
	const port = (type: number, value: number) =>
		value === 0 ? [] : [attribute(type, u16be(value))];
	return message(
		...[RTM.GETROUTE, NLM.ACK, header, u32(0), attribute(RTA.DST, address(destination))],
		...(source === "" ? [] : [attribute(RTA.SRC, address(source))]),
		...(input === undefined ? [] : [attribute(RTA.IIF, u32(input))]),
		...(output === undefined ? [] : [attribute(RTA.OIF, u32(output))]),
		...(protocol === 0 ? [] : [attribute(RTA.IP_PROTO, bytes(protocol))]),
		...port(RTA.SPORT, sourcePort),
		...port(RTA.DPORT, destinationPort),
	);
}

function u16be(number: number): Buffer {
	const buffer = Buffer.alloc(2);
	buffer.writeUInt16BE(number);
	return buffer;
}

function route(body: Buffer): FoundRoute {
	const attributes = new Map(attributesOf(body.subarray(ROUTE_HEADER)));
	const gateway = attributes.get(RTA.GATEWAY) ?? attributes.get(RTA.VIA)?.subarray(VIA_FAMILY);
	const source = attributes.get(RTA.PREFSRC);
	const metrics = attributes.get(RTA.METRICS);
	const mtu = metrics && new Map(attributesOf(metrics)).get(RTAX_MTU)?.readUInt32LE();
	return {
		type: TYPES[body[7] ?? 0] ?? "other",
		output: attributes.get(RTA.OIF)?.readUInt32LE() ?? 0,
		gateway: gateway === undefined ? "" : addressOf(gateway),
		source: source === undefined ? "" : addressOf(source),
		...(mtu === undefined ? {} : { mtu }),
	};
}
