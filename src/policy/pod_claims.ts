/** The addresses that Pods claim, and as members of which group: local ones as the CNI has them, all others by object. */
import type { PodObject } from "../cluster/pod_object.js";
import { NONE } from "./claims.js";
import type { Group, Groups } from "./groups.js";
import type { Owners } from "./owners.js";
import { keyOf, type Subject } from "./subjects.js";

export interface PodClaimsOptions {
	owners: Owners;
	groups: Groups;
	nodeName: string;
	/** See PolicyCompilerOptions. */
	unknownPods: "closed" | "unlabelled";
}

export class PodClaims {
	readonly #options: PodClaimsOptions;
	/** The group of Pods that are not known: no selector matches it. */
	readonly #nobody: Group = {
		...{
			key: "",
			namespace: "",
			labels: [],
			ports: [],
			atoms: [],
			first: NONE,
			users: 0,
		},
		classes: undefined,
	};

	constructor(options: PodClaimsOptions) {
		this.#options = options;
	}

	/** As its object says; undefined: it has gone. */
	set(key: string, pod: PodObject | undefined): void {
		const has = pod !== undefined && !pod.hostNetwork && !pod.ended && pod.addresses.length > 0;
		if (!has) {
			this.#release(this.#options.owners.removePod(key));
			return;
		}
		const { uid = "", node, created = 0, namespace, labels, ports } = pod;
		const group = this.#options.groups.take(namespace, labels, ports);
		this.#release(
			this.#options.owners.setPod(key, { key, uid, node, created, group }, pod.addresses),
		);
	}

	/** As the CNI attached it: independent of its object's status, which comes later. */
	setLocal(subject: Subject, isThere: boolean): void {
		const { endpoint, pod, labels, ports } = subject;
		const name = `\0${endpoint.id}`;
		if (!isThere) {
			this.#release(this.#options.owners.removePod(name));
			return;
		}
		const isUnknown = pod === undefined && this.#options.unknownPods === "closed";
		const isNobody = isUnknown || pod?.ended === true || pod?.hostNetwork === true;
		const group = isNobody
			? this.#nobody
			: this.#options.groups.take(endpoint.namespace, labels, ports);
		const now = {
			...{ key: keyOf(endpoint), uid: endpoint.uid ?? pod?.uid ?? endpoint.id },
			...{ node: this.#options.nodeName, group, created: Number.POSITIVE_INFINITY },
		};
		this.#release(this.#options.owners.setPod(name, now, endpoint.addresses));
	}

	#release(group: Group | undefined): void {
		if (group !== undefined && group !== this.#nobody) this.#options.groups.release(group);
	}
}
