/**
 * `POST /policy-diff`: what policies would open and close here if they were applied. Changes nothing.
 *
 *  1. the objects of the request, read like those of the cluster
 *  2. the cluster with these policies in place of those of the same names
 *  3. the difference, for its Pods and for the flows that live on this Node (src/policy/diff.ts)
 */
import { isDeepStrictEqual } from "node:util";
import type { PolicyDiffAnswer, PolicyDiffRequest } from "../api/messages/policies.js";
import { RequestError } from "../api/server.js";
import { mapping } from "../cluster/fields.js";
import { kindOf, readObject } from "../cluster/kinds.js";
import type { Kind, Records } from "../cluster/store.js";
import { inTurns, type Steps, Turns } from "../loop/turns.js";
import { PolicyDiffer } from "../policy/diff.js";
import type { Cluster, Flow } from "../policy/interpreter.js";
import { nameOf, namespaceOf } from "../policy/interpreter.js";
import { type ClusterSource, wholeCluster } from "./policy_cluster.js";

export interface PolicyDiffContext extends ClusterSource {
	isSynced: (kind: Kind) => boolean;
	/** False: this Node knows only its own Pods. */
	knowsAllPods: () => boolean;
	liveFlows: () => AsyncIterable<readonly Flow[]>;
}

type PolicyKind = "NetworkPolicy" | "ClusterNetworkPolicy";
type Proposed = { [K in PolicyKind]: Map<string, Records[K]> };
const NEEDED: readonly Kind[] = [
	"Node",
	"Namespace",
	"Pod",
	"NetworkPolicy",
	"ClusterNetworkPolicy",
];
const FAULTS_MOST = 20;

/** @throws RequestError */
export async function policyDiff(
	request: unknown,
	context: PolicyDiffContext,
): Promise<PolicyDiffAnswer> {
	const { objects, deleted = [] } = (request ?? {}) as Partial<
		Record<keyof PolicyDiffRequest, unknown>
	>;
	if (!Array.isArray(objects)) throw new RequestError(400, `${CANNOT}: expected a list of objects`);
	if (!Array.isArray(deleted) || deleted.some((name) => typeof name !== "string"))
		throw new RequestError(400, `${CANNOT}: expected names of policies as those to delete`);
	const unseen = NEEDED.filter((kind) => !context.isSynced(kind));
	if (unseen.length > 0)
		throw new RequestError(503, `${CANNOT}: not yet seen: ${unseen.join(", ")}`);
	const proposed = await inTurns(readProposed(objects, deleted.length > 0));
	const cluster = await inTurns(wholeCluster(context));
	const after = without(withProposed(cluster, proposed), deleted);
	const differ = await inTurns(PolicyDiffer.of(cluster, cluster, after));
	const turns = new Turns();
	for await (const flows of context.liveFlows())
		for (const flow of flows) {
			differ.count(flow);
			if (turns.due) await turns.pass();
		}
	const { flows, ...diff } = differ.result();
	return {
		...diff,
		liveFlows: flows,
		staged: stagedNames(cluster, proposed),
		pods: context.knowsAllPods() ? "all" : "local",
	};
}

const CANNOT = "Cannot compare policies";

/** @param mayBeNone the list may be empty, since there is something else to compare */
function* readProposed(objects: readonly unknown[], mayBeNone: boolean): Steps<Proposed> {
	const proposed: Proposed = { NetworkPolicy: new Map(), ClusterNetworkPolicy: new Map() };
	const faults: string[] = [];
	for (const object of objects) {
		yield;
		const kind = kindOf(mapping(object));
		if (kind !== "NetworkPolicy" && kind !== "ClusterNetworkPolicy") continue;
		const reading = readObject(kind, object);
		if ("fault" in reading) faults.push(`${kind} ${reading.key}: ${reading.fault}`);
		else if ("record" in reading)
			(proposed[kind] as Map<string, object>).set(reading.key, reading.record);
	}
	if (faults.length > 0) {
		const more = faults.length > FAULTS_MOST ? `; and ${faults.length - FAULTS_MOST} more` : "";
		const said = faults.slice(0, FAULTS_MOST).join("; ");
		throw new RequestError(422, `${CANNOT}: ${said}${more}`);
	}
	const isNone = proposed.NetworkPolicy.size + proposed.ClusterNetworkPolicy.size === 0;
	if (!isNone || mayBeNone) return proposed;
	throw new RequestError(
		422,
		`${CANNOT}: expected NetworkPolicies or ClusterNetworkPolicies, got none`,
	);
}

function withProposed(
	cluster: Cluster,
	proposed: Proposed,
): Pick<Cluster, "policies" | "clusterPolicies"> {
	return {
		policies: replaced(cluster.policies, proposed.NetworkPolicy),
		clusterPolicies: replaced(cluster.clusterPolicies, proposed.ClusterNetworkPolicy),
	};
}

/** @throws RequestError if there is no policy of a name */
function without(
	{ policies, clusterPolicies }: Pick<Cluster, "policies" | "clusterPolicies">,
	deleted: readonly string[],
): Pick<Cluster, "policies" | "clusterPolicies"> {
	const names = new Set(deleted);
	const all = new Set([...policies, ...clusterPolicies].map(nameOf));
	const missing = deleted.filter((name) => !all.has(name));
	if (missing.length > 0)
		throw new RequestError(
			404,
			`${CANNOT}: expected policies of this cluster to delete, got ${missing.slice(0, FAULTS_MOST).join(", ")}`,
		);
	const stays = (policy: Parameters<typeof nameOf>[0]) => !names.has(nameOf(policy));
	return { policies: policies.filter(stays), clusterPolicies: clusterPolicies.filter(stays) };
}

/** A policy with the same content stays the same object, so that nothing is compared for it. */
function replaced<P extends { namespace?: string; name: string; uid?: string; created?: number }>(
	policies: readonly P[],
	proposed: ReadonlyMap<string, P>,
): P[] {
	const rest = new Map(proposed);
	const all = policies.map((policy) => {
		const key = nameOf(policy);
		const now = rest.get(key);
		rest.delete(key);
		return now === undefined || isDeepStrictEqual(said(policy), said(now)) ? policy : now;
	});
	return [...all, ...rest.values()];
}

/** Without the fields that the API server adds. */
function said({ uid: _, created: __, ...policy }: { uid?: string; created?: number }): object {
	return policy;
}

function stagedNames(cluster: Cluster, proposed: Proposed): string[] {
	const network = [...proposed.NetworkPolicy.values()].filter(
		({ audit, namespace }) => audit || namespaceOf(cluster, namespace).audit,
	);
	const clusterWide = [...proposed.ClusterNetworkPolicy.values()].filter(({ audit }) => audit);
	return [...network, ...clusterWide].map(nameOf);
}
