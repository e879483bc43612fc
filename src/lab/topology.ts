/**
 * The lab's topology, read from a directory of Kubernetes manifests. Pure, except for reading files.
 *
 *  1. read every document of *.yaml, *.yml and *.json
 *  2. Nodes whose InternalIPs are in one network share a switch
 *  3. Pods that name their Node; the ConfigMap `fairway-lab` for what manifests cannot express
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { WRITTEN_BACK_ANNOTATION } from "../cluster/pod_object.js";
import { familyOf, networkOf, routerAddress, withoutLength } from "./subnet.js";

export interface Topology {
	subnets: Subnet[];
	nodes: LabNode[];
	pods: LabPod[];
	/** A host beyond the router that is not a Node. */
	outside: { addresses: string[]; routers: string[] } | undefined;
	/** MTU of every link of the underlay. */
	mtu: number;
	/** True: the router has routes to the pod CIDRs. */
	routerKnowsPods: boolean;
	/** TCP connections that policies decide, and their expected results. */
	connections: LabConnection[];
}

/** From one machine to a port of another. */
export interface LabConnection {
	from: string;
	to: string;
	port: number;
	expected: "allowed" | "denied";
}

/** A switch, and the router's port on it. */
export interface Subnet {
	/** "net1", "net2"... */
	name: string;
	/** "192.168.1.0/24" */
	networks: string[];
	/** The router's addresses here, with prefix length. */
	routers: string[];
}

export interface LabNode {
	name: string;
	subnet: string;
	/** With prefix length. */
	addresses: string[];
	podCIDRs: string[];
	/** False: the lab makes only the machine and its links; another implementation serves the Node. */
	agent: boolean;
}

export interface LabPod {
	namespace: string;
	name: string;
	node: string;
	/** The name in the lab: "pod1a", or "namespace-pod1a" outside the namespace "default". */
	label: string;
}

/** "none" marks a Node that another implementation serves. */
const AGENT_ANNOTATION = "fairway.dev/lab-agent";
const CONFIG_MAP = "fairway-lab";

interface Manifest {
	kind?: string;
	metadata?: { name?: string; namespace?: string; annotations?: Record<string, string> };
	spec?: { podCIDR?: string; podCIDRs?: string[]; nodeName?: string; hostNetwork?: boolean };
	status?: { addresses?: { type: string; address: string }[] };
	data?: Record<string, string>;
}

/** @throws Error if a file cannot be read or the manifests do not describe a cluster. */
export function readTopology(directory: string): Topology {
	return buildTopology(readManifests(directory), directory);
}

function readManifests(directory: string): Manifest[] {
	const manifests: Manifest[] = [];
	let files: string[];
	try {
		files = readdirSync(directory).sort();
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		throw new Error(
			`Cannot bring up a lab: expected a directory of manifests, got ${code} for ${directory}`,
		);
	}
	for (const file of files) {
		if (!/\.(ya?ml|json)$/.test(file)) continue;
		for (const document of parseAllDocuments(readFileSync(join(directory, file), "utf8"))) {
			if (document.errors[0] !== undefined)
				throw new Error(
					`Cannot read manifest ${join(directory, file)}: ${document.errors[0].message}`,
				);
			const object = document.toJS() as (Manifest & { items?: Manifest[] }) | null;
			manifests.push(...(object?.items ?? [object ?? {}]));
		}
	}
	return manifests;
}

export function buildTopology(manifests: readonly Manifest[], origin: string): Topology {
	const facts = manifests.find(
		(m) => m.kind === "ConfigMap" && m.metadata?.name === CONFIG_MAP,
	)?.data;
	const lengths = {
		4: facts?.subnetPrefixLength4 ?? "24",
		6: facts?.subnetPrefixLength6 ?? "64",
	};
	const subnets: Subnet[] = [];
	const nodes: LabNode[] = [];
	for (const { metadata, spec, status } of manifests.filter((m) => m.kind === "Node")) {
		const addresses = (status?.addresses ?? [])
			.filter(({ type }) => type === "InternalIP")
			.map(({ address }) => `${address}/${lengths[familyOf(address)]}`);
		const podCIDRs = spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]);
		if (metadata?.name === undefined || addresses.length === 0) continue;
		nodes.push({
			name: metadata.name,
			subnet: joinSubnet(subnets, addresses).name,
			addresses,
			podCIDRs,
			agent: metadata.annotations?.[AGENT_ANNOTATION] !== "none",
		});
	}
	if (nodes.length === 0)
		throw new Error(
			`Cannot build a lab from ${origin}: expected Node manifests with InternalIPs, found none`,
		);
	for (const subnet of subnets) subnet.routers = subnet.networks.map(routerAddress);
	const outside = (facts?.outside ?? "").split(/[\s,]+/).filter((address) => address !== "");
	const topology: Topology = {
		subnets,
		nodes,
		pods: manifests.flatMap((manifest) => toPod(manifest, nodes)),
		outside:
			outside.length === 0
				? undefined
				: { addresses: outside, routers: outside.map((a) => routerAddress(networkOf(a))) },
		mtu: Number(facts?.mtu ?? 1500),
		routerKnowsPods: facts?.routerKnowsPods === "true",
		connections: readConnections(facts?.connections ?? "", origin),
	};
	refuseDoubles(topology, origin);
	return topology;
}

/** A line each: FROM TO PORT allowed|denied. */
function readConnections(text: string, origin: string): LabConnection[] {
	const lines = text.split("\n").map((line) => line.trim());
	return lines
		.filter((line) => line !== "")
		.map((line) => {
			const [, from, to, port, expected] = /^(\S+) (\S+) (\d+) (allowed|denied)$/.exec(line) ?? [];
			if (from === undefined || to === undefined)
				throw new Error(
					`Cannot build a lab from ${origin}: expected FROM TO PORT allowed|denied in connections, got ${JSON.stringify(line)}`,
				);
			return { from, to, port: Number(port), expected: expected as LabConnection["expected"] };
		});
}

/** The switch that already serves the network of one of these addresses, or a new one. */
function joinSubnet(subnets: Subnet[], addresses: string[]): Subnet {
	const networks = addresses.map(networkOf);
	let subnet = subnets.find((known) => known.networks.some((n) => networks.includes(n)));
	if (subnet === undefined) {
		subnet = { name: `net${subnets.length + 1}`, networks: [], routers: [] };
		subnets.push(subnet);
	}
	subnet.networks = [...new Set([...subnet.networks, ...networks])];
	return subnet;
}

function toPod({ kind, metadata, spec }: Manifest, nodes: LabNode[]): LabPod[] {
	if (kind !== "Pod" || metadata?.name === undefined || spec?.hostNetwork === true) return [];
	// Not another Pod, but the lab's attributes of one.
	if (metadata.annotations?.[WRITTEN_BACK_ANNOTATION] !== undefined) return [];
	const node = nodes.find(({ name }) => name === spec?.nodeName);
	if (node === undefined) return [];
	const namespace = metadata.namespace ?? "default";
	const label = namespace === "default" ? metadata.name : `${namespace}-${metadata.name}`;
	return [{ namespace, name: metadata.name, node: node.name, label }];
}

/** A name or address that occurs twice would give a wrongly connected namespace. */
function refuseDoubles(topology: Topology, origin: string): void {
	const seen = new Set<string>();
	const names = [...topology.nodes.map((n) => n.name), ...topology.pods.map((p) => p.label)];
	const addresses = [
		...topology.nodes.flatMap((node) => node.addresses),
		...topology.subnets.flatMap((subnet) => subnet.routers),
		...(topology.outside?.addresses ?? []),
	].map(withoutLength);
	for (const one of [...names, "router", "outside", ...addresses]) {
		if (seen.has(one))
			throw new Error(`Cannot build a lab from ${origin}: "${one}" is there twice`);
		seen.add(one);
	}
}
