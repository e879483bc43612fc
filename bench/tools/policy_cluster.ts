/**
 * A cluster at the limits of network policy, as objects: 5,000 Nodes, 100,000 Pods, of which 110 are on Node HERE, and
 * 10,000 policies.
 */
import type { NetworkPolicyObject } from "../../src/cluster/network_policy_object.js";
import type { Selector } from "../../src/cluster/selector.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import type { PolicyKind, PolicyObjects } from "../../src/policy/compiler.js";
import { HERE, LOCAL, NAMESPACES, NODES, pod } from "./policy_member.js";

const [PODS, POLICIES] = [100_000, 10_000];

export { HERE, LOCAL, NAMESPACES, pod };

export const objects: { [K in PolicyKind]: Map<string, PolicyObjects[K]> } = {
	...{ Node: new Map(), Namespace: new Map(), Pod: new Map(), NetworkPolicy: new Map() },
	ClusterNetworkPolicy: new Map(),
};

export const is = (key: string, value: string): Selector => [
	{ key, operator: "In", values: [value] },
];

for (let i = 0; i < NODES; i++) {
	const [a, b] = [i >> 8, i & 255];
	const internalIPs = [`192.${168 + a}.${b}.1`, `fd01::${i.toString(16)}`];
	const node: NodeObject = {
		...{ name: `n${i}`, internalIPs, transportAddresses: internalIPs },
		podCIDRs: [`10.${a}.${b}.0/24`, `fd00:${i.toString(16)}::/64`],
	};
	objects.Node.set(node.name, node);
}

for (let i = 0; i < PODS; i++) {
	const one = pod(i);
	objects.Pod.set(`${one.namespace}/${one.name}`, one);
}

export function policy(i: number, port = 80): NetworkPolicyObject {
	const namespace = `ns${i % NAMESPACES}`;
	return {
		...{
			namespace,
			name: `np${i}`,
			pods: i % 3 === 0 ? [] : is("tier", `t${i % 4}`),
			audit: false,
		},
		ingress: [
			{
				peers: [{ namespaces: undefined, pods: is("app", `app${i}`) }],
				ports: [{ protocol: 6, first: port, last: port }],
			},
			{
				peers: [
					{
						namespaces: is("kubernetes.io/metadata.name", `ns${(i * 7) % NAMESPACES}`),
						pods: is("tier", `t${i % 3}`),
					},
				],
				ports: [{ protocol: 6, name: "http" }],
			},
		],
		egress: [
			{
				peers: [
					{
						block: `172.${16 + (i % 16)}.${(i >> 4) & 255}.0/24`,
						except: [`172.${16 + (i % 16)}.${(i >> 4) & 255}.8/29`],
					},
				],
				ports: undefined,
			},
			{
				peers: [{ namespaces: [], pods: is("app", `app${i % 50}`) }],
				ports: [{ protocol: 6, name: "http" }],
			},
		],
	};
}

for (let i = 0; i < POLICIES; i++) {
	const one = policy(i);
	objects.NetworkPolicy.set(`${one.namespace}/${one.name}`, one);
}
