/** Queries of links, addresses, routes and neighbours through rtnetlink(7). */
import { runSteps, type StepResult } from "#native";
import { Turns } from "../loop/turns.js";
import { formatAddress } from "../tables/address.js";
import {
	change,
	IFA,
	IFLA,
	INFO,
	linkHeader,
	NDA,
	NetlinkError,
	NUD_PERMANENT,
	RT_TABLE_MAIN,
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
	text,
	textOf,
	u32,
} from "./netlink_message.js";

export interface Link {
	index: number;
	name: string;
	mtu: number;
	/** IFF_* */
	flags: number;
	/** "" if there is none. */
	mac: string;
	hasEthernet: boolean;
	/** "veth" and so on; absent for hardware. */
	kind?: string;
	alias?: string;
	/** UDP port of a vxlan device. */
	port?: number;
}

export interface Route {
	/** "10.244.1.0/24" */
	prefix: string;
	/** Index of the device; 0: none. */
	index: number;
	source?: string;
	mtu?: number;
	metric?: number;
}

export interface Neighbour {
	address: string;
	index: number;
	mac: string;
}

const ARPHRD_ETHER = 1;
const IFLA_VXLAN_PORT = 15;
const LINK_HEADER = 16;
const ADDRESS_HEADER = 8;
const ROUTE_HEADER = 12;
const NEIGHBOUR_HEADER = 12;

/** Every link of this namespace, or of the one at a path. @throws NetlinkError */
export async function readLinks(netns?: string): Promise<Link[]> {
	const [links] = await change([{ what: "link show", step: { message: allLinks() } }], netns);
	return decodeLinks(links);
}

/** undefined: there is no such link. @throws NetlinkError */
export async function readLink(name: string, netns?: string): Promise<Link | undefined> {
	const [result] = await runSteps([{ message: oneLink(name) }], netns);
	if (result?.code === "ENODEV") return undefined;
	if (result?.errno !== 0)
		throw new NetlinkError(`link show dev ${name}`, result?.code ?? "", result?.message ?? "");
	return decodeLinks(result)[0];
}

/** The index of the link in the answer to oneLink. */
export function indexOf(result: StepResult | undefined): number {
	return decodeLinks(result)[0]?.index ?? 0;
}

export function oneLink(name: string): Buffer {
	return message(RTM.GETLINK, NLM.ACK, linkHeader(), attribute(IFLA.IFNAME, text(name)));
}

/** A link's addresses with their prefix lengths, those of this link only. @throws NetlinkError */
export async function readAddresses(
	index: number,
): Promise<{ address: string; prefixLength: number; isLinkLocal: boolean }[]> {
	const header = Buffer.concat([bytes(0, 0, 0, 0), u32(index)]);
	const query = message(RTM.GETADDR, NLM.DUMP, header);
	const [result] = await change([{ what: "address show", step: { message: query } }]);
	return [...messagesOf(result?.data ?? Buffer.alloc(0))].flatMap(([type, body]) => {
		if (type !== RTM.NEWADDR || body.readUInt32LE(4) !== index) return [];
		const attributes = new Map(attributesOf(body.subarray(ADDRESS_HEADER)));
		const local = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
		if (local === undefined) return [];
		const isLinkLocal = body[3] === RT_SCOPE_LINK;
		return [{ address: addressOf(local), prefixLength: body[1] ?? 0, isLinkLocal }];
	});
}

/** Routes of the main table with this protocol, permanent neighbours, and links. @throws NetlinkError */
export async function readRouting(
	protocol: number,
): Promise<{ routes: Route[]; neighbours: Neighbour[]; links: Link[] }> {
	const [links, v4, v6, neighbours] = await change([
		{ what: "link show", step: { message: allLinks() } },
		{ what: "-4 route show", step: { message: someRoutes(AF_INET, protocol) } },
		{ what: "-6 route show", step: { message: someRoutes(AF_INET6, protocol) } },
		{ what: "neighbour show", step: { message: allNeighbours() } },
	]);
	return {
		links: decodeLinks(links),
		routes: [...(await decodeInTurns(v4, route)), ...(await decodeInTurns(v6, route))].filter(
			(one) => one.protocol === protocol,
		),
		neighbours: await decodeInTurns(neighbours, neighbour),
	};
}

/* ------------------------------------------------------ requests */

const AF_INET = 2;
const AF_INET6 = 10;
const RT_SCOPE_LINK = 253;

function allLinks(): Buffer {
	return message(RTM.GETLINK, NLM.DUMP, linkHeader());
}

function someRoutes(family: number, protocol: number): Buffer {
	const header = Buffer.concat([bytes(family, 0, 0, 0, 0, protocol, 0, 0), u32(0)]);
	return message(RTM.GETROUTE, NLM.DUMP, header, attribute(RTA.TABLE, u32(RT_TABLE_MAIN)));
}

function allNeighbours(): Buffer {
	return message(RTM.GETNEIGH, NLM.DUMP, Buffer.alloc(NEIGHBOUR_HEADER));
}

/* ------------------------------------------------------ answers */

async function decodeInTurns<T>(
	result: StepResult | undefined,
	decode: (type: number, body: Buffer) => T | undefined,
): Promise<T[]> {
	const turns = new Turns();
	const found: T[] = [];
	for (const [type, body] of messagesOf(result?.data ?? Buffer.alloc(0))) {
		if (turns.due) await turns.pass();
		const one = decode(type, body);
		if (one !== undefined) found.push(one);
	}
	return found;
}

export function decodeLinks(result: StepResult | undefined): Link[] {
	return [...messagesOf(result?.data ?? Buffer.alloc(0))].flatMap(([type, body]) =>
		type === RTM.NEWLINK ? [link(body)] : [],
	);
}

function link(body: Buffer): Link {
	const decoded: Link = {
		index: body.readInt32LE(4),
		name: "",
		mtu: 0,
		flags: body.readUInt32LE(8),
		mac: "",
		hasEthernet: body.readUInt16LE(2) === ARPHRD_ETHER,
	};
	for (const [type, payload] of attributesOf(body.subarray(LINK_HEADER))) {
		if (type === IFLA.IFNAME) decoded.name = textOf(payload);
		else if (type === IFLA.MTU) decoded.mtu = payload.readUInt32LE();
		else if (type === IFLA.ADDRESS) decoded.mac = macOf(payload);
		else if (type === IFLA.IFALIAS) decoded.alias = textOf(payload);
		else if (type === IFLA.LINKINFO) Object.assign(decoded, linkInfo(payload));
	}
	return decoded;
}

function linkInfo(payload: Buffer): Pick<Link, "kind" | "port"> {
	const attributes = new Map(attributesOf(payload));
	const [kind, data] = [attributes.get(INFO.KIND), attributes.get(INFO.DATA)];
	if (kind === undefined) return {};
	const decoded = { kind: textOf(kind) };
	if (decoded.kind !== "vxlan" || data === undefined) return decoded;
	const port = new Map(attributesOf(data)).get(IFLA_VXLAN_PORT);
	return port === undefined ? decoded : { ...decoded, port: port.readUInt16BE() };
}

function route(type: number, body: Buffer): (Route & { protocol: number }) | undefined {
	if (type !== RTM.NEWROUTE) return undefined;
	const attributes = new Map(attributesOf(body.subarray(ROUTE_HEADER)));
	const table = attributes.get(RTA.TABLE)?.readUInt32LE() ?? body[4];
	if (table !== RT_TABLE_MAIN) return undefined;
	const empty = Buffer.alloc(body[0] === AF_INET6 ? 16 : 4);
	const source = attributes.get(RTA.PREFSRC);
	const metric = attributes.get(RTA.PRIORITY)?.readUInt32LE();
	const metrics = attributes.get(RTA.METRICS);
	const mtu = metrics && new Map(attributesOf(metrics)).get(RTAX_MTU)?.readUInt32LE();
	return {
		prefix: `${addressOf(attributes.get(RTA.DST) ?? empty)}/${body[1]}`,
		index: attributes.get(RTA.OIF)?.readUInt32LE() ?? 0,
		protocol: body[5] ?? 0,
		...(source === undefined ? {} : { source: addressOf(source) }),
		...(mtu === undefined ? {} : { mtu }),
		...(metric === undefined ? {} : { metric }),
	};
}

function neighbour(type: number, body: Buffer): Neighbour | undefined {
	if (type !== RTM.NEWNEIGH || (body.readUInt16LE(8) & NUD_PERMANENT) === 0) return undefined;
	const attributes = new Map(attributesOf(body.subarray(NEIGHBOUR_HEADER)));
	const address = attributes.get(NDA.DST);
	if (address === undefined) return undefined;
	const lladdr = attributes.get(NDA.LLADDR);
	return {
		address: addressOf(address),
		index: body.readInt32LE(4),
		mac: lladdr === undefined ? "" : macOf(lladdr),
	};
}

const MAPPED = Buffer.from("00000000000000000000ffff", "hex");

/** Text of an address of 4 or 16 bytes. */
export function addressOf(payload: Buffer): string {
	return formatAddress(payload.length === 4 ? Buffer.concat([MAPPED, payload]) : payload);
}
