/** Which machines of a lab may communicate, and which kind of pair each is. Pure, except for the lab's addresses. */
import type { Lab } from "./lab.js";
import type { Family } from "./subnet.js";

/** In display order. */
export const kinds = {
	podToPodHere: "Pod → Pod, same Node",
	podToPodSubnet: "Pod → Pod, same subnet",
	podToPodRouted: "Pod → Pod, other subnet",
	podToOwnNode: "Pod → its own Node",
	nodeToOwnPod: "Node → its own Pod",
	podToNode: "Pod → another Node",
	nodeToPod: "Node → a remote Pod",
	podToOutside: "Pod → outside",
} as const;

export type Kind = keyof typeof kinds;

export interface Pair {
	kind: Kind;
	family: Family;
	/** Machines, by name. */
	from: string;
	to: string;
}

/** Every pair of every kind, in each family that both ends have. */
export function allPairs(lab: Lab): Pair[] {
	const { nodes, pods, outside } = lab.topology;
	const attached = pods.filter(({ label }) => lab.attachments.has(label)).map((p) => p.label);
	const names = nodes.map(({ name }) => name);
	const machines = [...attached, ...names, ...(outside === undefined ? [] : ["outside"])];
	const pairs: Pair[] = [];
	for (const family of [4, 6] as const)
		for (const from of [...attached, ...names])
			for (const to of machines) {
				const kind = from === to ? undefined : kindOf(lab, from, to);
				if (kind !== undefined && lab.hasFamily(from, family) && lab.hasFamily(to, family))
					pairs.push({ kind, family, from, to });
			}
	return pairs;
}

/** One pair of each kind and family: the first, and for the routed kinds one over the router. */
export function samplePairs(lab: Lab): Pair[] {
	const all = allPairs(lab);
	const samples: Pair[] = [];
	for (const kind of Object.keys(kinds) as Kind[])
		for (const family of [4, 6] as const) {
			const candidates = all.filter((pair) => pair.kind === kind && pair.family === family);
			const sample = candidates.find(({ from, to }) => apart(lab, from, to)) ?? candidates[0];
			if (sample !== undefined) samples.push(sample);
		}
	return samples;
}

/** undefined: Node to Node and Node to outside is the Node network's own. */
function kindOf(lab: Lab, from: string, to: string): Kind | undefined {
	const sender = lab.topology.pods.find(({ label }) => label === from);
	const receiver = lab.topology.pods.find(({ label }) => label === to);
	if (sender === undefined && receiver === undefined) return undefined;
	if (sender === undefined) return receiver?.node === from ? "nodeToOwnPod" : "nodeToPod";
	if (to === "outside") return "podToOutside";
	if (receiver === undefined) return sender.node === to ? "podToOwnNode" : "podToNode";
	if (sender.node === receiver.node) return "podToPodHere";
	return apart(lab, from, to) ? "podToPodRouted" : "podToPodSubnet";
}

/** True if a router is between the Nodes of two machines. */
function apart(lab: Lab, a: string, b: string): boolean {
	const subnet = (machine: string): string | undefined => {
		const node = nodeOf(lab, machine);
		return lab.topology.nodes.find(({ name }) => name === node)?.subnet;
	};
	return subnet(a) !== subnet(b);
}

/** The Node that a Pod is on; a Node's own name; undefined for the outside host. */
export function nodeOf(lab: Lab, machine: string): string | undefined {
	const pod = lab.topology.pods.find(({ label }) => label === machine);
	return pod?.node ?? lab.topology.nodes.find(({ name }) => name === machine)?.name;
}
