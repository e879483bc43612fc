/**
 * The kernel objects of an endpoint: a veth whose far end is created inside the Pod's namespace, and its
 * addresses, routes and neighbours. This code keeps no state. Deleting the host side removes everything,
 * which is the complete roll-back.
 *
 *  Pod    eth0: addresses /32 and /128, default routes via the gateways, permanent neighbours
 *  host   fairway1a2b3c4d: the gateway MAC, no address, a route and a permanent neighbour per Pod
 *         address, the endpoint's key as alias
 *
 * An ADD takes a few netlink messages here and in the Pod's namespace, and no process.
 */
import { existsSync } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import {
	addAddress,
	addDefaultRoute,
	addVeth,
	type Change,
	change,
	deleteLink,
	type NetlinkError,
	nameLink,
	setHostRoute,
	setNeighbour,
	setOffload,
	setSysctl,
	setUp,
} from "../linux/netlink.js";
import { indexOf, oneLink, readLink, readLinks } from "../linux/netlink_query.js";
import { type Endpoint, type EndpointId, endpointKey } from "./endpoint.js";
import { CniError, ErrorCode } from "./errors.js";
import { isV6 } from "./result.js";

/** f_type of a namespace file (linux/magic.h). */
const NSFS_MAGIC = 0x6e736673;

/** The alias that identifies a host interface's endpoint, for a process without a record of it. */
function interfaceAlias(e: EndpointId): string {
	return `fairway ${endpointKey(e)}`;
}

/**
 * @throws CniError if the path is not a network namespace, or is the Node's own
 */
export async function checkNamespace(path: string): Promise<void> {
	const refuse = (is: string) =>
		new CniError(
			ErrorCode.INVALID_ENVIRONMENT,
			`Cannot use CNI_NETNS: expected a network namespace other than the Node's, got ${path}, which is ${is}`,
		);
	try {
		const [filesystem, file, own] = await Promise.all([
			statfs(path),
			stat(path),
			stat("/proc/self/ns/net"),
		]);
		if (filesystem.type !== NSFS_MAGIC) throw refuse("no namespace");
		if (file.ino === own.ino && file.dev === own.dev) throw refuse("the Node's");
	} catch (error) {
		if (error instanceof CniError) throw error;
		throw refuse((error as NodeJS.ErrnoException).code === "ENOENT" ? "not there" : `${error}`);
	}
}

/* ------------------------------------------------------ creating */

/**
 * Creates the veth and its host side.
 *
 * @throws CniError, leaving nothing behind
 */
export async function attachHost(e: Endpoint, gatewayMac: string): Promise<void> {
	const host = e.hostInterface;
	const ends = [
		{ name: host, mac: gatewayMac },
		{ name: e.ifName, mac: e.mac },
	] as const;
	try {
		await change([addVeth(...ends, e.mtu, e.netns)]);
	} catch (error) {
		throw await explainRefusal(e, error as NetlinkError);
	}
	try {
		// No link-local address: the Node answers on fairway0, and all veths share this MAC.
		const index = await makeReady(host, [nameLink(host, interfaceAlias(e))], [setUp(host)]);
		await change([
			// IPv6 Pods work even if the Node's default is off.
			...(e.addresses.some(isV6) ? [setSysctl(ipv6Switch(host), "0", true)] : []),
			...e.addresses.flatMap((address) => [
				setNeighbour(address, e.mac, index, host),
				setHostRoute(address, ROUTE_PROTOCOL, index, host),
			]),
		]);
	} catch (error) {
		await detach(host);
		throw refused(error as NetlinkError);
	}
}

/** Makes the first changes, reads the index of an interface, and makes the changes that need it. */
async function makeReady(
	name: string,
	before: readonly Change[],
	after: readonly Change[],
	netns?: string,
): Promise<number> {
	const look = { what: `link show dev ${name}`, step: { message: oneLink(name) } };
	const results = await change([...before, look, ...after], netns);
	return indexOf(results[before.length]);
}

function ipv6Switch(name: string): string {
	return `ipv6/conf/${name}/disable_ipv6`;
}

/**
 * Prepares the Pod's side, after attachHost.
 *
 * @throws CniError; the caller detaches
 */
export async function attachPod(e: Endpoint, gatewayMac: string): Promise<void> {
	const name = e.ifName;
	const conf = `ipv6/conf/${name}`;
	const sysctls = [
		// The Pod has its routes; there is no router here, and from_pod drops router solicitations.
		setSysctl(`${conf}/accept_ra`, "0", true),
		...(e.addresses.some(isV6)
			? [
					setSysctl(ipv6Switch(name), "0"),
					// No other host is on this link, and tentative addresses cannot be used.
					setSysctl(`${conf}/accept_dad`, "0"),
				]
			: []),
	];
	try {
		const index = await makeReady(name, sysctls, [], e.netns);
		const lines = [
			...e.addresses.map((address) => addAddress(address, index, name)),
			setUp(name),
			...e.gateways.flatMap((gateway) => [
				setNeighbour(gateway, gatewayMac, index, name),
				addDefaultRoute(gateway, index, name),
			]),
			// Without GRO veth has no NAPI, and packets that XDP redirects into the Pod are lost. The kernel marks the
			// host's side as a redirect target only if GRO is switched on while the Pod's side is up
			// (veth_set_features).
			setOffload(name, "generic-receive-offload", true),
			// SCTP would hand over its packets in bundles, which no tunnel can carry.
			setOffload(name, "tx-sctp-segmentation", false),
		];
		await change(lines, e.netns);
	} catch (error) {
		throw refused(error as NetlinkError);
	}
}

/** Removes the host side, and everything with it. Succeeds if it does not exist. */
export async function detach(hostInterface: string): Promise<void> {
	try {
		await change([deleteLink(hostInterface)]);
	} catch (error) {
		if ((error as NetlinkError).code !== "ENODEV") throw refused(error as NetlinkError);
	}
}

/** Host interfaces with an alias of Fairway, with the endpoint's key. */
export async function ownInterfaces(): Promise<{ name: string; key: string }[]> {
	return (await readLinks()).flatMap(({ name, kind, alias = "" }) => {
		const key = kind === "veth" ? /^fairway (\S+\/\S+\/\S+)$/.exec(alias)?.[1] : undefined;
		return key === undefined ? [] : [{ name, key }];
	});
}

/* ------------------------------------------------------ errors */

function refused({ message }: NetlinkError): CniError {
	return new CniError(ErrorCode.KERNEL_REFUSED, message);
}

/** The kernel answers EEXIST if either end's name is taken. */
async function explainRefusal(e: Endpoint, error: NetlinkError): Promise<CniError> {
	if (error.code !== "EEXIST") return refused(error);
	const inPod = await readLink(e.ifName, e.netns).catch(() => undefined);
	if (inPod === undefined) return refused(error);
	return new CniError(
		ErrorCode.INVALID_ENVIRONMENT,
		`Cannot use CNI_IFNAME: ${e.netns} already has an interface "${e.ifName}"`,
	);
}

/**
 * True while the host side exists. /proc/sys/net shows the network namespace of the process, /sys/class/net
 * that of its mount.
 */
export function isAttached(hostInterface: string): boolean {
	return existsSync(`/proc/sys/net/ipv4/conf/${hostInterface}`);
}
