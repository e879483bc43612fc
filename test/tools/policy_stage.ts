/** Two Nodes, Pods of this one and the compiler's tables, change by change. */
import type { NetworkPolicyObject } from "../../src/cluster/network_policy_object.js";
import type { PodObject } from "../../src/cluster/pod_object.js";
import { atOnce } from "../../src/loop/turns.js";
import {
	PolicyCompiler,
	type PolicyCompilerOptions,
	type PolicyKind,
	type PolicyObjects,
} from "../../src/policy/compiler.js";
import { Evaluator } from "../../src/policy/evaluator.js";
import type { LocalEndpoint } from "../../src/policy/subjects.js";
import { Objects } from "./policy_clusters.js";

const NODES = [1, 2].map((number) => ({
	...{
		name: `n${number}`,
		internalIPs: [`192.168.1.${number}`],
		transportAddresses: [`192.168.1.${number}`],
	},
	podCIDRs: [`10.244.${number}.0/24`],
}));

export function pod(key: string, address: string, more: Partial<PodObject> = {}): PodObject {
	const [namespace = "", name = ""] = key.split("/");
	return {
		...{
			namespace,
			name,
			uid: `uid-${name}`,
			node: `n${address.split(".")[2]}`,
			labels: ["app", name],
		},
		...{
			addresses: [address],
			hostNetwork: false,
			ended: false,
			ports: [],
			limits: [],
			created: 1,
		},
		...{ isReady: true, isTerminating: false, ...more },
	};
}

export function policy(name: string, more: Partial<NetworkPolicyObject>): NetworkPolicyObject {
	return {
		namespace: "x",
		name,
		pods: [],
		ingress: undefined,
		egress: undefined,
		audit: false,
		...more,
	};
}

export const app = (name: string) => [{ key: "app", operator: "In" as const, values: [name] }];

export class Stage {
	readonly objects = new Objects();
	readonly evaluator = new Evaluator();
	readonly compiler: PolicyCompiler;
	endpoints: LocalEndpoint[] = [];

	constructor(
		unknownPods: "closed" | "unlabelled" = "closed",
		options: Partial<PolicyCompilerOptions> = {},
	) {
		this.compiler = new PolicyCompiler({
			...{ source: this.objects, nodeName: "n1", unknownPods },
			...options,
		});
		this.set("Node", ...NODES);
	}

	/** Attaches Pods of the CNI. */
	attach(...endpoints: [key: string, address: string, uid?: string][]) {
		this.endpoints = endpoints.map(([key, address, uid]) => {
			const [namespace = "", name = ""] = key.split("/");
			return {
				id: `${key} ${address} ${uid}`,
				namespace,
				name,
				addresses: [address],
				...(uid === undefined ? {} : { uid }),
			};
		});
		return this.set("Pod");
	}

	set<K extends PolicyKind>(kind: K, ...objects: PolicyObjects[K][]) {
		return this.#update(kind, objects, false);
	}

	remove<K extends PolicyKind>(kind: K, ...objects: PolicyObjects[K][]) {
		return this.#update(kind, objects, true);
	}

	#update(kind: PolicyKind, objects: readonly object[], gone: boolean) {
		const keys = objects.map((object) => this.objects.apply({ kind, object, gone } as never));
		const changes = atOnce(
			this.compiler.update({ changed: { [kind]: keys }, endpoints: this.endpoints }),
		);
		for (const write of changes.writes) this.evaluator.apply(write);
		return changes;
	}

	ids(address: string) {
		const policies = this.evaluator.tables.endpointPolicies.get(address);
		return policies && { egress: policies.egress, ingress: policies.ingress };
	}

	ingress(local: string, peer: string, port = 80): string {
		const answer = this.evaluator.judge({
			direction: "ingress",
			local,
			peer,
			hairpin: false,
			protocol: 6,
			port,
		});
		return typeof answer === "string"
			? answer
			: answer === undefined
				? "not here"
				: answer.allow
					? "allow"
					: "deny";
	}
}

export const [A, B, C, D] = ["10.244.1.2", "10.244.1.3", "10.244.2.2", "10.244.2.3"];
