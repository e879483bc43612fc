/**
 * Leftovers of other CNIs and of kube-proxy (kube_proxy_leftovers.ts) on this Node: interfaces with routes, iptables
 * chains, network configurations. Until they are removed they can take packets, or Pods, away from Fairway.
 *
 *  1 reads interfaces, routes, chains, and the container runtime's configurations
 *  2 attributes them by their names
 *  3 what to do about them
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Leftovers } from "../api/messages/check.js";
import type { IpRoute } from "../linux/iproute.js";
import { readLinks } from "../linux/netlink_query.js";
import { findKubeProxy } from "./kube_proxy_leftovers.js";

interface Marks {
	cni: string;
	device: RegExp;
	chain: RegExp;
	/** `type` of a plugin in a network configuration. */
	plugin: RegExp;
	/** A legitimate reason for it to be there. */
	unless?: string;
}

const known: readonly Marks[] = [
	{
		cni: "flannel",
		device: /^(flannel(-v6)?\.\d+|flannel-(wg|v6-wg)|cni0)$/,
		chain: /^FLANNEL-/,
		plugin: /^flannel$/,
	},
	{
		cni: "kube-router",
		device: /^(kube-bridge|kube-dummy-if|tun-[0-9a-f]{11})$/,
		chain: /^KUBE-(ROUTER|POD-FW|NWPLCY)-/,
		plugin: /^kube-router$/,
		unless: "kube-router runs on this Node beside Fairway, to announce routes",
	},
	{
		cni: "Cilium",
		device: /^(cilium_(host|net|vxlan|geneve|wg0)|lxc_health|lxc[0-9a-f]{12})$/,
		chain: /^(OLD_)?CILIUM_/,
		plugin: /^cilium-cni$/,
	},
	{
		cni: "Calico",
		device: /^(cali[0-9a-f]{11}|vxlan(-v6)?\.calico|wg(-v6)?\.cali|wireguard\.cali)$/,
		chain: /^cali-/,
		plugin: /^calico$/,
	},
	{
		cni: "Antrea",
		device: /^antrea-(gw0|egress0|wg0|ingress0)$/,
		chain: /^ANTREA-/,
		plugin: /^antrea$/,
	},
	{
		cni: "Weave Net",
		device: /^(weave|vethwe-(bridge|datapath)|vxlan-6784)$/,
		chain: /^WEAVE(-|$)/,
		plugin: /^weave-net$/,
	},
];

/** Most names in a sentence or a command; a Node may have hundreds of another CNI's veths. */
const NAMED = 5;

/**
 * @param confDir the container runtime's network configurations; "": unknown
 * @param isProxyReplaced Fairway serves all Services, so nothing of kube-proxy should be here
 */
export async function findLeftovers(
	ip: IpRoute,
	confDir: string,
	isProxyReplaced = false,
): Promise<Leftovers[]> {
	const devices = (await readLinks(ip.netns)).map(({ name }) => name);
	const chains = await readChains(ip);
	const files = readPlugins(confDir);
	const found: Leftovers[] = [];
	for (const marks of known) {
		const own = {
			devices: devices.filter((name) => marks.device.test(name)),
			chains: chains.filter((name) => marks.chain.test(name)),
			files: files.filter(({ types }) => types.some((type) => marks.plugin.test(type))),
		};
		if (own.devices.length + own.chains.length + own.files.length === 0) continue;
		const paths = own.files.map(({ path }) => path);
		const routes = await countRoutes(ip, own.devices);
		const { devices: interfaces, chains: chainsOf } = own;
		const what = { interfaces, routes, chains: chainsOf, files: paths };
		const none = { tables: [], connections: 0 };
		found.push({ cni: marks.cni, ...what, ...none, advice: advice(marks, what) });
	}
	const proxy = isProxyReplaced ? await findKubeProxy(ip, devices, chains) : undefined;
	return proxy === undefined ? found : [...found, proxy];
}

/* ------------------------------------------------------ 1 */

/** Names of the chains of both families, once each; empty if this machine has no iptables. */
async function readChains(ip: IpRoute): Promise<string[]> {
	const texts = await Promise.all(
		["iptables-save", "ip6tables-save"].map((tool) => ip.command(tool).catch(() => "")),
	);
	const names = texts.flatMap((text) => [...text.matchAll(/^:(\S+) -/gm)].map(([, name]) => name));
	return [...new Set(names.filter((name) => name !== undefined))].sort();
}

/** Routes that lead out of these devices. */
async function countRoutes(ip: IpRoute, devices: readonly string[]): Promise<number> {
	let count = 0;
	for (const device of devices.slice(0, NAMED))
		for (const family of ["-4", "-6"]) {
			const routes = await ip.query(family, "route", "show", "dev", device).catch(() => []);
			count += routes.length;
		}
	return count;
}

function readPlugins(dir: string): { path: string; types: string[] }[] {
	try {
		return readdirSync(dir)
			.filter((file) => /\.(conf|conflist|json)$/.test(file))
			.sort()
			.map((file) => ({ path: join(dir, file), types: typesOf(join(dir, file)) }));
	} catch {
		return [];
	}
}

function typesOf(path: string): string[] {
	try {
		const { type, plugins } = JSON.parse(readFileSync(path, "utf8"));
		const all: unknown[] = Array.isArray(plugins) ? plugins.map((plugin) => plugin?.type) : [type];
		return all.filter((one) => typeof one === "string");
	} catch {
		return [];
	}
}

/* ------------------------------------------------------ 3 */

/** Sentences, and commands that begin with "$ ". */
function advice(
	{ cni, unless }: Marks,
	{ interfaces, chains, files }: Pick<Leftovers, "interfaces" | "chains" | "files">,
): string[] {
	const lines =
		unless === undefined
			? [`Remove them if ${cni} no longer runs on this Node.`]
			: [`Remove them, unless ${unless}.`];
	for (const file of files) lines.push(`$ rm ${file}`);
	for (const name of interfaces.slice(0, NAMED)) lines.push(`$ ip link del dev ${name}`);
	if (interfaces.length > NAMED)
		lines.push(`The same for ${interfaces.length - NAMED} more of its interfaces.`);
	if (chains.length > 0)
		lines.push(
			"A restart of the Node removes the iptables chains, unless something creates them again.",
		);
	return lines;
}
