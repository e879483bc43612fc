/**
 * The networks that the cluster can be tested with: Fairway in one of its modes, or the plain plugins, without or
 * with kube-router's firewall; and who serves Services on it: Fairway, or kube-proxy.
 */
import { type Mode, modes, settled } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { configure, provideEnvironment, startFairway } from "./fairway.js";
import { apiServer } from "./layout.js";
import { routePodCIDRs, startFirewall, startPlainNetwork, withdrawPodCIDRs } from "./plain.js";

export type Network = Mode | "plain" | "kube-router";
export const networks: readonly Network[] = [...modes, "plain", "kube-router"];

/** Not Fairway's. */
export const isPlain = (network: Network): network is "plain" | "kube-router" =>
	network === "plain" || network === "kube-router";

export type ServiceProxy = "fairway" | "kube-proxy";
export const serviceProxies: readonly ServiceProxy[] = ["fairway", "kube-proxy"];

/** Puts the first network on a cluster without one. @returns seconds until all Nodes were Ready */
export async function startNetwork(
	cluster: Cluster,
	network: Network,
	proxy: ServiceProxy,
): Promise<number> {
	const start = Date.now();
	if (proxy === "kube-proxy") cluster.startProxies();
	if (isPlain(network)) {
		await startPlainNetwork(cluster);
		if (network === "kube-router") startFirewall(cluster);
		return (Date.now() - start) / 1000;
	}
	if (network === "noEncap") await routePodCIDRs(cluster);
	await provideEnvironment(cluster, environments[proxy]);
	const seconds = await startFairway(cluster, { trafficEncapMode: network, ...settings[proxy] });
	await settled(cluster, network);
	return seconds;
}

/** What the agents need to know of who serves Services. */
const settings = {
	// Off by default, and a spec of Services asks for it.
	fairway: { fairwayProxy: { externalIPs: true } },
	"kube-proxy": { fairwayProxy: { enable: false } },
} as const satisfies Record<ServiceProxy, object>;

export const environments: Record<ServiceProxy, Record<string, string>> = {
	// The agents serve the API server's Service, and cannot wait for it.
	fairway: { FAIRWAY_API_SERVER: apiServer },
	// As where kubeadm installs: the agents reach the API server by its Service.
	"kube-proxy": { ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY: "true" },
};

/** Changes Fairway's mode while it runs; in `noEncap` the router knows the pod CIDRs. */
export async function changeMode(cluster: Cluster, mode: Mode): Promise<void> {
	if (mode === "noEncap") await routePodCIDRs(cluster);
	await configure(cluster, { trafficEncapMode: mode });
	await settled(cluster, mode);
	if (mode !== "noEncap") await withdrawPodCIDRs(cluster);
}
