/**
 * The kinds of objects that Fairway reads, wherever they come from. A kind is a record in `Records`
 * (store.ts), a function that reads it, and a line here.
 */

import { closeClusterPolicy, readClusterPolicy } from "./cluster_policy_object.js";
import { readEndpointSlice, shareEndpointSlice } from "./endpoint_slice_object.js";
import { Fault, type Mapping, mapping, nameOf, namespacedNameOf, uidOf } from "./fields.js";
import { readNamespace } from "./namespace_object.js";
import { closeNetworkPolicy, readNetworkPolicy } from "./network_policy_object.js";
import { readNode, shareNode } from "./node_object.js";
import { readPod } from "./pod_object.js";
import { readServiceCidr } from "./service_cidr_object.js";
import { readService, shareService } from "./service_object.js";
import type { Kind, Records } from "./store.js";

/**
 * An object that was read: usable; invalid (its last valid content stays); or valid, but of no use (yet).
 * key "": not even its name can be read.
 */
export type Reading<K extends Kind = Kind> = {
	[Each in K]: { kind: Each; key: string } & (
		| { record: Records[Each] }
		/** `instead`: in force in its place while no valid content is known. */
		| { fault: string; uid?: string; instead?: Records[Each] }
		| { skipped: string }
	);
}[K];

interface KindOf<K extends Kind> {
	apiVersions: readonly string[];
	namespaced: boolean;
	/** @throws Fault; or returns a sentence that says why there is nothing to use */
	read: (object: Mapping) => Records[K] | string;
	/** The same record, with what records have in common kept once. */
	share?: (record: Records[K]) => Records[K];
	/** What stands in for one that cannot be used, where nothing is known of what it said before. */
	close?: (object: Mapping, why: string) => Records[K];
}

const KINDS: { [K in Kind]: KindOf<K> } = {
	Node: { apiVersions: ["v1"], namespaced: false, read: readNode, share: shareNode },
	Pod: { apiVersions: ["v1"], namespaced: true, read: readPod },
	Service: { apiVersions: ["v1"], namespaced: true, read: readService, share: shareService },
	ServiceCIDR: {
		apiVersions: ["networking.k8s.io/v1", "networking.k8s.io/v1beta1"],
		namespaced: false,
		read: readServiceCidr,
	},
	EndpointSlice: {
		apiVersions: ["discovery.k8s.io/v1"],
		namespaced: true,
		read: readEndpointSlice,
		share: shareEndpointSlice,
	},
	Namespace: { apiVersions: ["v1"], namespaced: false, read: readNamespace },
	NetworkPolicy: {
		apiVersions: ["networking.k8s.io/v1"],
		namespaced: true,
		read: readNetworkPolicy,
		close: closeNetworkPolicy,
	},
	ClusterNetworkPolicy: {
		apiVersions: ["policy.networking.k8s.io/v1alpha2", "policy.networking.k8s.io/v1beta1"],
		namespaced: false,
		read: readClusterPolicy,
		close: closeClusterPolicy,
	},
};

export const ALL_KINDS = Object.keys(KINDS) as Kind[];

/** Undefined: the object is of no kind that is read. */
export function kindOf(object: Mapping): Kind | undefined {
	const { kind, apiVersion } = object;
	if (typeof kind !== "string" || !Object.hasOwn(KINDS, kind)) return undefined;
	const known = KINDS[kind as Kind];
	// Manifests may leave out that of the core.
	return known.apiVersions.includes(String(apiVersion ?? "v1")) ? (kind as Kind) : undefined;
}

/** `object` is untrusted, and of this kind whatever it says. */
export function readObject<K extends Kind>(kind: K, object: unknown): Reading<K> {
	const { namespaced, read, close } = KINDS[kind] as KindOf<K>;
	const given = mapping(object);
	const key = namespaced ? namespacedNameOf(given) : nameOf(given);
	try {
		if (key === "") throw new Fault(`expected a DNS name as ${wrongName(given, namespaced)}`);
		const record = read(given);
		const reading =
			typeof record === "string" ? { kind, key, skipped: record } : { kind, key, record };
		return reading as Reading<K>;
	} catch (error) {
		if (!(error instanceof Fault)) throw error;
		const uid = uidOf(given);
		const fault = error.message;
		const instead = key === "" ? undefined : close?.(given, fault);
		return {
			...{ kind, key, fault },
			...(uid === undefined ? {} : { uid }),
			...(instead === undefined ? {} : { instead }),
		} as Reading<K>;
	}
}

/** True: the record stands in for an object that cannot be used. */
export function isStandIn(record: object | undefined): boolean {
	return record !== undefined && "unusable" in record;
}

/** For a record that `readObject` did not make in this thread: from a file, or another thread. */
export function shareRecord<K extends Kind>(kind: K, record: Records[K]): Records[K] {
	const { share } = KINDS[kind] as KindOf<K>;
	return share === undefined ? record : share(record);
}

/** The same for a reading of another thread. */
export function shareReading(reading: Reading): Reading {
	if (!("record" in reading)) return reading;
	return { ...reading, record: shareRecord(reading.kind, reading.record) } as Reading;
}

function wrongName(object: Mapping, namespaced: boolean): string {
	const { name, namespace } = mapping(object.metadata);
	const which = namespaced && nameOf(object) !== "" ? "namespace" : "name";
	const value = which === "name" ? name : namespace;
	return `metadata.${which}, got ${value === undefined || value === null ? "nothing" : typeof value === "object" ? "something else" : JSON.stringify(value).slice(0, 80)}`;
}
