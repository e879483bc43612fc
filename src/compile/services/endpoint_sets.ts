/**
 * Which endpoints of a Service's port are used, by one of its two sets or until their flows have ended
 * (kube-proxy's topology.go decides alike). Pure.
 *
 *  1. candidates: the endpoints of all slices of the family that have the port, each once
 *  2. cluster set: ready ones that topology allows, else all that are serving and terminating
 *  3. local set: ready ones of this Node, else those of it that are serving and terminating
 *
 * The two fall back to terminating endpoints each for itself.
 */
import type { EndpointRecord, EndpointSliceObject } from "../../cluster/endpoint_slice_object.js";
import { BackendState } from "../../tables/generated.js";

export interface Candidate {
	/** Canonical. */
	address: string;
	port: number;
	record: EndpointRecord;
}

/** What the choice depends on: this Node. */
export interface Place {
	nodeName: string;
	/** "": none. */
	zone: string;
}

export interface EndpointSets {
	/** Those that serve, with their BackendState. */
	used: { candidate: Candidate; state: number }[];
	topology: Topology;
	/** The set consists of terminating endpoints. */
	clusterFellBack: boolean;
	localFellBack: boolean;
}

/** Which ready endpoints the cluster set is limited to. */
export type Topology = "none" | "node" | "zone";

/** @param slices those of the Service, of both families, in any order */
export function candidatesOf(
	slices: readonly EndpointSliceObject[],
	family: 4 | 6,
	port: { name: string; protocol: number },
): Candidate[] {
	const sorted =
		slices.length > 1 ? [...slices].sort((a, b) => (a.name < b.name ? -1 : 1)) : slices;
	const candidates = new Map<string, Candidate>();
	for (const slice of sorted) {
		if (slice.family !== family) continue;
		for (const { name, protocol, port: number } of slice.ports) {
			if (name !== port.name || protocol !== port.protocol) continue;
			for (const record of slice.endpoints) {
				const { address } = record;
				const key = `${address} ${number}`;
				const known = candidates.get(key);
				// One endpoint in two slices, as while it moves from one to the other: the better one counts.
				if (known === undefined || rank(record) > rank(known.record))
					candidates.set(key, { address, port: number, record });
			}
		}
	}
	return [...candidates.values()];
}

/** @param wantsLocal the local set is asked for; otherwise it stays empty */
export function setsOf(
	candidates: readonly Candidate[],
	{ nodeName, zone }: Place,
	wantsLocal: boolean,
): EndpointSets {
	const ready = candidates.filter(({ record }) => record.isReady);
	const topology = topologyOf(ready, nodeName, zone);
	const allowed = new Set(
		topology === "none"
			? ready
			: ready.filter(({ record }) =>
					topology === "node"
						? record.hintNodes.includes(nodeName)
						: record.hintZones.includes(zone),
				),
	);
	const isLocal = ({ record }: Candidate) => record.node === nodeName;
	const clusterFellBack = allowed.size === 0;
	const localFellBack = wantsLocal && !ready.some(isLocal);
	const lingers = ({ record }: Candidate) => record.isServing && record.isTerminating;
	const used: EndpointSets["used"] = [];
	for (const candidate of candidates) {
		const { isReady, isServing } = candidate.record;
		if (!isReady && !isServing) continue;
		const inCluster = clusterFellBack ? lingers(candidate) : allowed.has(candidate);
		const inLocal =
			wantsLocal && isLocal(candidate) && (localFellBack ? lingers(candidate) : isReady);
		const state =
			BackendState.SERVES |
			(inCluster ? BackendState.IN_CLUSTER_SET : 0) |
			(inLocal ? BackendState.IN_LOCAL_SET : 0);
		used.push({ candidate, state });
	}
	return { used, topology, clusterFellBack, localFellBack };
}

/** There is no partial mode: if one endpoint has no hint, all hints are ignored. */
function topologyOf(ready: readonly Candidate[], nodeName: string, zone: string): Topology {
	const allHave = (hints: "hintNodes" | "hintZones") =>
		ready.every(({ record }) => record[hints].length > 0);
	const someHas = (hints: "hintNodes" | "hintZones", name: string) =>
		ready.some(({ record }) => record[hints].includes(name));
	if (allHave("hintNodes") && someHas("hintNodes", nodeName)) return "node";
	if (zone !== "" && allHave("hintZones") && someHas("hintZones", zone)) return "zone";
	return "none";
}

function rank({ isReady, isServing, isTerminating }: EndpointRecord): number {
	return (isReady ? 4 : 0) + (isServing ? 2 : 0) + (isTerminating ? 0 : 1);
}
