/** The networks that the cluster can be tested with: Fairway in one of its modes, or the plain plugins. */
import { type Mode, modes, settled } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { configure, startFairway } from "./fairway.js";
import { routePodCIDRs, startPlainNetwork, withdrawPodCIDRs } from "./plain.js";

export type Network = Mode | "plain";
export const networks: readonly Network[] = [...modes, "plain"];

/** Puts the first network on a cluster without one. @returns seconds until all Nodes were Ready */
export async function startNetwork(cluster: Cluster, network: Network): Promise<number> {
	const start = Date.now();
	if (network === "plain") {
		await startPlainNetwork(cluster);
		return (Date.now() - start) / 1000;
	}
	if (network === "noEncap") await routePodCIDRs(cluster);
	const seconds = await startFairway(cluster, { trafficEncapMode: network });
	await settled(cluster, network);
	return seconds;
}

/** Changes Fairway's mode while it runs; in `noEncap` the router knows the pod CIDRs. */
export async function changeMode(cluster: Cluster, mode: Mode): Promise<void> {
	if (mode === "noEncap") await routePodCIDRs(cluster);
	await configure(cluster, { trafficEncapMode: mode });
	await settled(cluster, mode);
	if (mode !== "noEncap") await withdrawPodCIDRs(cluster);
}
