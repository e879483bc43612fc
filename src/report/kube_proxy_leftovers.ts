/**
 * Leftovers of kube-proxy where Fairway serves all Services. Packets of Pods and from the network bypass them, but
 * connections of the Node's own processes do: the rules send these to endpoints that are no longer updated.
 *
 *  1. iptables chains, nftables tables, the devices and virtual servers of ipvs, translated connections
 *  2. what to do about them
 */
import type { Leftovers } from "../api/messages/check.js";
import type { IpRoute } from "../linux/iproute.js";

/** kube-proxy's chains in all its modes, present and former; not those of kubelet and kube-router. */
const CHAIN =
	/^KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|NODE-PORT|POSTROUTING|MARK-(MASQ|DROP)|FORWARD|LOAD-BALANCER|SOURCE-RANGES-FIREWALL|IPVS-(OUT-)?FILTER|PROXY-(CANARY|FIREWALL)|(SVC|SVL|SEP|EXT|XLB|FW)-[0-9A-Z]{16})$/;
const IPVS_DEVICE = "kube-ipvs0";
/** The second destination differs from the first: its answers come from elsewhere. */
const NOT_TRANSLATED = " dst=([^ ]+) .* src=\\1 ";

/**
 * @param devices names of this Node's interfaces
 * @param chains names of its iptables chains
 */
export async function findKubeProxy(
	ip: IpRoute,
	devices: readonly string[],
	chains: readonly string[],
): Promise<Leftovers | undefined> {
	const interfaces = devices.filter((name) => name === IPVS_DEVICE);
	const own = chains.filter((name) => CHAIN.test(name));
	const tables = await readTables(ip);
	const servers = await countVirtualServers(ip);
	if (interfaces.length + own.length + tables.length + servers === 0) return undefined;
	const connections = await countTranslated(ip);
	const what = { interfaces, chains: own, tables, connections };
	return { cni: "kube-proxy", ...what, routes: 0, files: [], advice: advice(what, servers) };
}

/* ------------------------------------------------------ 1 */

/** "ip kube-proxy"; empty if this machine has no nft. */
async function readTables(ip: IpRoute): Promise<string[]> {
	const text = await ip.command("nft", "list", "tables").catch(() => "");
	return [...text.matchAll(/^table ((?:ip|ip6|inet) kube-proxy)$/gm)].map(([, name = ""]) => name);
}

/** Virtual servers of ipvs; without its module there is no such file. */
async function countVirtualServers(ip: IpRoute): Promise<number> {
	const text = await ip.command("cat", "/proc/net/ip_vs").catch(() => "");
	return text.match(/^(TCP|UDP|SCTP) /gm)?.length ?? 0;
}

/** In another process, as a Node may have hundreds of thousands of connections. */
async function countTranslated(ip: IpRoute): Promise<number> {
	const file = "/proc/net/nf_conntrack";
	const text = await ip.command("grep", "-Ecv", NOT_TRANSLATED, file).catch(() => "0");
	return Number(text.trim());
}

/* ------------------------------------------------------ 2 */

function advice(
	{
		interfaces,
		chains,
		tables,
		connections,
	}: Pick<Leftovers, "interfaces" | "chains" | "tables" | "connections">,
	servers: number,
): string[] {
	const lines = [
		"Fairway serves all Services (fairwayProxy). Remove kube-proxy from the cluster first if it still runs: it makes these again. Until they are gone, connections of the Node's own processes to Services follow kube-proxy's last rules.",
	];
	if (chains.length > 0)
		lines.push(
			"kube-proxy removes its chains itself, run once in the Node's network namespace:",
			"$ kube-proxy --cleanup",
		);
	for (const table of tables) lines.push(`$ nft delete table ${table}`);
	if (servers > 0) lines.push("$ ipvsadm --clear");
	for (const name of interfaces)
		lines.push(
			"The device makes the Services' addresses this Node's own, so Pods do not reach them:",
			`$ ip link del dev ${name}`,
		);
	if (connections > 0)
		lines.push(
			"Translated connections end with their entries. Senders on the Node that keep one UDP socket stay with a former endpoint until then:",
			"$ conntrack -D -p udp --dst-nat",
		);
	return lines;
}
