/**
 * The kernel objects of an endpoint: a veth whose far end is created inside the Pod's namespace, and its
 * addresses, routes and neighbours. This code keeps no state. Deleting the host side removes everything,
 * which is the complete roll-back.
 *
 *  Pod    eth0: addresses /32 and /128, default routes via the gateways, permanent neighbours
 *  host   fairway1a2b3c4d: the gateway MAC, no address, a route and a permanent neighbour per Pod
 *         address, the endpoint's key as alias
 *
 * An ADD takes two processes: a batch here, a shell in the Pod's namespace.
 */
import { existsSync } from "node:fs";
import { readFile, stat, statfs, writeFile } from "node:fs/promises";
import type { BatchFailure, IpRoute, IpRouteError } from "../linux/iproute.js";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import { type Endpoint, type EndpointId, endpointKey } from "./endpoint.js";
import { CniError, ErrorCode } from "./errors.js";
import { defaultPrefix, hostPrefix, isV6 } from "./result.js";

/** f_type of a namespace file (linux/magic.h). */
const NSFS_MAGIC = 0x6e736673;

/** The alias that identifies a host interface's endpoint, for a process without a record of it. */
export function interfaceAlias(e: EndpointId): string {
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

/* ------------------------------------------------------ making */

/**
 * Creates the veth and its host side.
 *
 * @throws CniError, leaving nothing behind
 */
export async function attachHost(ip: IpRoute, e: Endpoint, gatewayMac: string): Promise<void> {
	const host = e.hostInterface;
	const link = [
		`link add name ${host} mtu ${e.mtu} address ${gatewayMac} type veth peer name ${e.ifName} mtu ${e.mtu} address ${e.mac} netns ${e.netns}`,
		// No link-local address: the Node answers on fairway0, and all veths share this MAC.
		`link set dev ${host} alias "${interfaceAlias(e)}" addrgenmode none`,
		`link set dev ${host} up`,
	];
	const addresses = e.addresses.flatMap((address) => [
		`neigh replace ${address} dev ${host} lladdr ${e.mac} nud permanent`,
		`route replace ${hostPrefix(address)} dev ${host} proto ${ROUTE_PROTOCOL}`,
	]);
	// IPv6 Pods work even if the Node's default is off.
	const switchOn = e.addresses.some(isV6) && (await isIPv6Off("default"));
	const [failure] = await ip.batch(switchOn ? link : [...link, ...addresses]);
	if (failure?.command.startsWith("link add") === true) throw await explainRefusal(ip, e, failure);
	try {
		if (failure !== undefined) throw refused(failure);
		if (!switchOn) return;
		await writeFile(ipv6Switch(host), "0");
		const [second] = await ip.batch(addresses);
		if (second !== undefined) throw refused(second);
	} catch (error) {
		await detach(ip, host);
		throw error;
	}
}

function ipv6Switch(name: string): string {
	return `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
}

async function isIPv6Off(name: string): Promise<boolean> {
	return (await readFile(ipv6Switch(name), "utf8").catch(() => "0")).trim() !== "0";
}

/** Script for one process in the Pod's namespace. $1: the interface, $2: the lines of a batch. */
const podScript = `
	ipv6="/proc/sys/net/ipv6/conf/$1"
	# The Pod has its routes; no router answers here, and from_pod drops what asks for one.
	[ ! -e "$ipv6/accept_ra" ] || echo 0 >"$ipv6/accept_ra"
	case "$2" in *nodad*)
		echo 0 >"$ipv6/disable_ipv6"
		# No one else is on this link, and tentative addresses cannot be used.
		echo 0 >"$ipv6/accept_dad"
	esac
	printf "%s" "$2" | ip -batch -
	# Without GRO veth has no NAPI, and what XDP redirects into the Pod vanishes. The kernel tells the
	# host's side that it may be redirected to only when GRO is switched on while the Pod's side is up
	# (veth_set_features). SCTP would hand over its packets in bundles, which no tunnel can carry.
	exec ethtool -K "$1" gro on tx-sctp-segmentation off`;

/**
 * Prepares the Pod's side, after attachHost.
 *
 * @throws CniError; the caller detaches
 */
export async function attachPod(ip: IpRoute, e: Endpoint, gatewayMac: string): Promise<void> {
	const dev = `dev ${e.ifName}`;
	const lines = [
		...e.addresses.map(
			(address) => `addr add ${hostPrefix(address)} ${dev}${isV6(address) ? " nodad" : ""}`,
		),
		`link set ${dev} up`,
		...e.addresses.flatMap((address, i) => [
			`neigh replace ${e.gateways[i]} ${dev} lladdr ${gatewayMac} nud permanent`,
			// "add", because an existing default route belongs to another network.
			`route add ${defaultPrefix(address)} via ${e.gateways[i]} ${dev} onlink`,
		]),
	];
	try {
		const text = `${lines.join("\n")}\n`;
		await ip.inNamespace(e.netns).command("sh", "-ec", podScript, "sh", e.ifName, text);
	} catch (error) {
		const { detail } = error as IpRouteError;
		const command = lines[Number(/^Command failed -:(\d+)$/m.exec(detail)?.[1]) - 1];
		if (command === undefined) throw kernelRefused(`Cannot prepare ${e.ifName}`, detail);
		throw refused({ command, message: detail.split("\n")[0] ?? "" });
	}
}

/** Removes the host side and with it everything. Succeeds if there is none. */
export async function detach(ip: IpRoute, hostInterface: string): Promise<void> {
	const [failure] = await ip.batch([`link del dev ${hostInterface}`]);
	if (failure !== undefined && failure.code !== "ENODEV") throw refused(failure);
}

/** Host interfaces with an alias of Fairway, with the endpoint's key. */
export async function ownInterfaces(ip: IpRoute): Promise<{ name: string; key: string }[]> {
	const links = await ip.query<{ ifname: string; ifalias?: string }>(
		"link",
		"show",
		"type",
		"veth",
	);
	return links.flatMap(({ ifname, ifalias }) => {
		const key = /^fairway (\S+\/\S+\/\S+)$/.exec(ifalias ?? "")?.[1];
		return key === undefined ? [] : [{ name: ifname, key }];
	});
}

/* ------------------------------------------------------ errors */

function refused({ command, message }: Pick<BatchFailure, "command" | "message">): CniError {
	return kernelRefused(`Cannot run "ip ${command}"`, message);
}

function kernelRefused(act: string, message: string): CniError {
	return new CniError(ErrorCode.KERNEL_REFUSED, `${act}: ${message}`);
}

/** `link add` prints "File exists" for either end. */
async function explainRefusal(ip: IpRoute, e: Endpoint, failure: BatchFailure): Promise<CniError> {
	if (failure.code !== "EEXIST") return refused(failure);
	const inPod = await ip
		.inNamespace(e.netns)
		.query("link", "show", "dev", e.ifName)
		.catch(() => []);
	if (inPod.length === 0) return refused(failure);
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
