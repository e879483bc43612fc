/**
 * The Pods of this Node, the policies that select each of them, and so the key of its rule list by direction.
 *
 *  1. a policy that changed is tried on the Pods that it may select; a Pod that changed tries all. Only the policies of
 *     namespaces with Pods here are kept, of all others their names
 *  2. a changed Pod gets its choice of policies again
 */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { type Labels, NO_LABELS } from "../cluster/labels.js";
import type { NamespaceObject } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import type { NamedPort, PodObject } from "../cluster/pod_object.js";
import { matches } from "../cluster/selector.js";
import type { Steps } from "../loop/turns.js";
import type { Chosen, Direction } from "./rule_list.js";

/** Policies that are read from the store between two steps, and that are tried on a Pod. */
const [READ, EVERY] = [16, 256];

/** A Pod of this Node as the CNI has it. */
export interface LocalEndpoint {
	/** The id of its sandbox: each ADD has another. */
	id: string;
	namespace: string;
	name: string;
	/** K8S_POD_UID; absent: whichever Pod has that name. */
	uid?: string;
	addresses: readonly string[];
}

export interface Subject {
	endpoint: LocalEndpoint;
	/** What is known of the Pod; undefined: nothing (yet). */
	pod: PodObject | undefined;
	labels: Labels;
	ports: readonly NamedPort[];
	network: Set<string>;
	cluster: Set<string>;
}

export interface SubjectsOptions {
	pod: (key: string) => PodObject | undefined;
	networkPolicy: (key: string) => NetworkPolicyObject | undefined;
	namespace: (name: string) => NamespaceObject;
}

export class Subjects {
	readonly #options: SubjectsOptions;
	readonly #subjects = new Map<string, Subject>();
	/** Keys of NetworkPolicies, by namespace. */
	readonly #networkKeys = new Map<string, Set<string>>();
	/** Those of namespaces with Pods of this Node, by namespace and key. */
	readonly #network = new Map<string, Map<string, NetworkPolicyObject>>();
	readonly #cluster = new Map<string, ClusterPolicyObject>();
	readonly #versions = new WeakMap<object, number>();
	#version = 0;
	/** Subjects for which something else may be chosen. */
	#dirty = new Set<Subject>();

	constructor(options: SubjectsOptions) {
		this.#options = options;
	}

	all(): IterableIterator<Subject> {
		return this.#subjects.values();
	}

	take(): Set<Subject> {
		const dirty = this.#dirty;
		this.#dirty = new Set();
		return dirty;
	}

	/** Returns those that are new, and those that are gone. */
	*setEndpoints(
		endpoints: Iterable<LocalEndpoint>,
	): Steps<{ added: Subject[]; removed: Subject[] }> {
		const gone = new Map(this.#subjects);
		const added: Subject[] = [];
		for (const endpoint of endpoints) {
			const known = gone.get(endpoint.id);
			if (known !== undefined && sameEndpoint(known.endpoint, endpoint)) {
				gone.delete(endpoint.id);
				continue;
			}
			const nothing = { pod: undefined, labels: NO_LABELS, ports: [] };
			const subject = {
				endpoint,
				...nothing,
				network: new Set<string>(),
				cluster: new Set<string>(),
			};
			added.push(subject);
		}
		for (const id of gone.keys()) this.#subjects.delete(id);
		const namespaces = new Set(added.map(({ endpoint }) => endpoint.namespace));
		for (const { endpoint } of this.#subjects.values()) namespaces.add(endpoint.namespace);
		for (const namespace of this.#network.keys())
			if (!namespaces.has(namespace)) this.#network.delete(namespace);
		for (const namespace of namespaces)
			if (!this.#network.has(namespace)) this.#network.set(namespace, yield* this.#read(namespace));
		for (const subject of added) {
			this.#subjects.set(subject.endpoint.id, subject);
			yield* this.#renew(subject);
		}
		return { added, removed: [...gone.values()] };
	}

	/** Renews these Pods, which have changed; calls back with the local ones. */
	*renewPods(keys: { has(key: string): boolean }, each: (subject: Subject) => void): Steps<void> {
		for (const subject of this.#subjects.values())
			if (keys.has(keyOf(subject.endpoint))) {
				yield* this.#renew(subject);
				each(subject);
			}
	}

	*renewNamespace(name: string): Steps<void> {
		for (const subject of this.#subjects.values())
			if (subject.endpoint.namespace === name) yield* this.#renew(subject);
	}

	setNetworkPolicy(key: string, policy: NetworkPolicyObject | undefined): void {
		const namespace = key.slice(0, key.indexOf("/"));
		const keys = this.#networkKeys.get(namespace) ?? new Set();
		if (policy === undefined) keys.delete(key);
		else keys.add(key);
		if (keys.size === 0) this.#networkKeys.delete(namespace);
		else this.#networkKeys.set(namespace, keys);
		const policies = this.#network.get(namespace);
		if (policies === undefined) return;
		if (policy === undefined) policies.delete(key);
		else policies.set(key, policy);
		for (const subject of this.#subjects.values()) {
			if (subject.endpoint.namespace !== namespace) continue;
			const selected = policy !== undefined && matches(policy.pods, subject.labels);
			this.#note(subject, subject.network, key, selected);
		}
	}

	setClusterPolicy(key: string, policy: ClusterPolicyObject | undefined): void {
		if (policy === undefined) this.#cluster.delete(key);
		else this.#cluster.set(key, policy);
		for (const subject of this.#subjects.values())
			this.#note(subject, subject.cluster, key, policy !== undefined && this.#has(policy, subject));
	}

	/**
	 * What is chosen for it in a direction, and a key that is the same for the same choice. "closed": an
	 * unusable policy may say something here.
	 */
	choose(
		subject: Subject,
		direction: Direction,
	): { chosen: Chosen; key: string } | "open" | "closed" {
		const audited = this.#options.namespace(subject.endpoint.namespace).audit;
		const network = [...subject.network]
			.map((key) => this.#network.get(subject.endpoint.namespace)!.get(key)!)
			.map((policy) => ({ policy, audit: policy.audit || audited }))
			.filter(({ policy }) => policy[direction] !== undefined)
			.filter(({ policy, audit }) => !audit || policy.unusable === undefined)
			.sort((a, b) => (a.policy.name < b.policy.name ? -1 : 1));
		const cluster = [...subject.cluster]
			.map((key) => this.#cluster.get(key)!)
			.filter((policy) => policy[direction].length > 0)
			.filter(({ audit, unusable }) => !audit || unusable === undefined)
			.sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
		if (network.length === 0 && cluster.length === 0) return "open";
		const isUnusable = (policy: { unusable?: string }) => policy.unusable !== undefined;
		if (network.some(({ policy }) => isUnusable(policy)) || cluster.some(isUnusable))
			return "closed";
		const named =
			direction === "ingress" &&
			(network.some(({ policy }) => hasNames(policy.ingress!)) ||
				cluster.some(({ ingress }) => hasNames(ingress)));
		const ownPorts = named ? subject.ports : [];
		const versions = [
			...network.map(({ policy, audit }) => `${this.#versionOf(policy)}${audit ? "a" : ""}`),
			...cluster.map((policy) => this.#versionOf(policy)),
		];
		const ports = ownPorts.map(({ name, protocol, port }) => `${name}/${protocol}/${port}`).sort();
		const key = `${direction} ${versions.join()} ${ports.join()}`;
		return { chosen: { direction, network, cluster, ownPorts }, key };
	}

	*#read(namespace: string): Steps<Map<string, NetworkPolicyObject>> {
		const policies = new Map<string, NetworkPolicyObject>();
		let read = 0;
		for (const key of this.#networkKeys.get(namespace) ?? []) {
			const policy = this.#options.networkPolicy(key);
			if (policy !== undefined) policies.set(key, policy);
			if (++read % READ === 0) yield;
		}
		return policies;
	}

	#versionOf(policy: object): number {
		let version = this.#versions.get(policy);
		if (version === undefined) {
			version = ++this.#version;
			this.#versions.set(policy, version);
		}
		return version;
	}

	*#renew(subject: Subject): Steps<void> {
		const { namespace, uid } = subject.endpoint;
		const pod = this.#options.pod(keyOf(subject.endpoint));
		const isIt =
			pod !== undefined &&
			(uid === undefined || pod.uid === undefined || pod.uid === uid || pod.mirrorOf === uid);
		subject.pod = isIt ? pod : undefined;
		subject.labels = subject.pod?.labels ?? NO_LABELS;
		subject.ports = subject.pod?.ports ?? [];
		subject.network = new Set();
		let tried = 0;
		for (const [key, { pods }] of this.#network.get(namespace) ?? []) {
			if (matches(pods, subject.labels)) subject.network.add(key);
			if (++tried % EVERY === 0) yield;
		}
		subject.cluster = new Set();
		for (const [key, policy] of this.#cluster) {
			if (this.#has(policy, subject)) subject.cluster.add(key);
			if (++tried % EVERY === 0) yield;
		}
		yield;
		this.#dirty.add(subject);
	}

	#has(
		{ subject: { namespaces, pods } }: ClusterPolicyObject,
		{ endpoint, labels }: Subject,
	): boolean {
		return (
			matches(namespaces, this.#options.namespace(endpoint.namespace).labels) &&
			matches(pods, labels)
		);
	}

	#note(subject: Subject, selected: Set<string>, key: string, is: boolean): void {
		const was = selected.has(key);
		if (!was && !is) return;
		if (is) selected.add(key);
		else selected.delete(key);
		this.#dirty.add(subject);
	}
}

export function keyOf({ namespace, name }: { namespace: string; name: string }): string {
	return `${namespace}/${name}`;
}

function sameEndpoint(a: LocalEndpoint, b: LocalEndpoint): boolean {
	return (
		a === b ||
		(keyOf(a) === keyOf(b) && a.uid === b.uid && a.addresses.join() === b.addresses.join())
	);
}

function hasNames(rules: readonly { ports: readonly object[] | undefined }[]): boolean {
	return rules.some(({ ports }) => ports?.some((port) => "name" in port));
}
