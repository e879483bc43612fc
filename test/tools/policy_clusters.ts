/** Random small clusters with policies, where everything that can be said is said often. */
import fc from "fast-check";
import type {
	ClusterPolicyObject,
	ClusterPolicyPeer,
} from "../../src/cluster/cluster_policy_object.js";
import { NAME_LABEL, type NamespaceObject } from "../../src/cluster/namespace_object.js";
import type {
	NetworkPolicyObject,
	NetworkPolicyPeer,
} from "../../src/cluster/network_policy_object.js";
import type { PodObject } from "../../src/cluster/pod_object.js";
import { blockOf, type PolicyPort } from "../../src/cluster/policy_fields.js";
import type { Requirement, Selector } from "../../src/cluster/selector.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import type { PolicyKind, PolicyObjects } from "../../src/policy/compiler.js";
import type { Cluster, Flow } from "../../src/policy/interpreter.js";
import { contains } from "../../src/tables/prefix.js";

export const HERE = "n1";
const NAMESPACES = ["x", "y", "z"];
const OUTSIDE = ["8.8.8.8", "8.8.9.9", "2001:db8::1"];
const PODS = podsOf(["n1", "n2", "n3"]);

function podsOf(names: string[]): string[] {
	return names.flatMap((_, i) =>
		[2, 3, 4].flatMap((host) => [`10.244.${i + 1}.${host}`, `fd00:${i + 1}::${host}`]),
	);
}

const BLOCKS = [
	...[
		"0.0.0.0/0",
		"10.0.0.0/8",
		"10.244.0.0/16",
		"10.244.1.0/24",
		"10.244.1.1/32",
		"10.244.1.2/32",
	],
	...[
		"10.244.2.0/30",
		"192.168.0.0/16",
		"192.168.1.0/31",
		"192.168.1.2/32",
		"203.0.113.0/24",
		"8.8.8.0/24",
	],
	...["::/0", "fd00::/16", "fd00:1::/64", "fd00:1::2/128", "fd01::2/128", "2001:db8::/32"],
];

const oneOf = <T>(...values: readonly T[]) => fc.constantFrom(...values);
const some = <T>(one: fc.Arbitrary<T>, most: number, least = 0) =>
	fc.array(one, { minLength: least, maxLength: most, size: "max" });

function requirement(
	keys: readonly string[],
	values: readonly string[],
): fc.Arbitrary<Requirement> {
	return fc
		.record({
			key: oneOf(...keys),
			operator: oneOf("In", "In", "NotIn", "Exists", "DoesNotExist"),
			values: some(oneOf(...values), 2, 1),
		})
		.map(({ key, operator, values }) => ({
			...{ key, operator: operator as Requirement["operator"] },
			values: operator.endsWith("In") ? [...new Set(values)].sort() : [],
		}));
}

const podSelector: fc.Arbitrary<Selector> = fc.oneof(
	fc.constant([]),
	some(requirement(["app", "tier"], ["a", "b"]), 2),
);
const namespaceSelector: fc.Arbitrary<Selector> = some(
	fc.oneof(requirement(["team"], ["a", "b"]), requirement([NAME_LABEL], NAMESPACES)),
	1,
);

/** Ports that policies name. */
export const NUMBERS = [53, 80, 81, 8080];
const port: fc.Arbitrary<PolicyPort> = fc.oneof(
	fc
		.record({
			protocol: oneOf(6, 6, 17, 132),
			first: oneOf(0, ...NUMBERS),
			last: oneOf(...NUMBERS, 65535),
		})
		.map(({ protocol, first, last }) => ({ protocol, first: Math.min(first, last), last })),
	fc.record({ protocol: oneOf(6, 17), name: oneOf("http", "dns") }),
);
const clusterPort: fc.Arbitrary<PolicyPort> = fc.oneof(
	port,
	oneOf("http", "dns").map((name) => ({ protocol: undefined, name })),
);
const optionally = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined });

const block: fc.Arbitrary<NetworkPolicyPeer> = fc
	.record({ block: oneOf(...BLOCKS), except: some(oneOf(...BLOCKS), 3) })
	.map(({ block, except }) => ({
		block,
		except: [...new Set(except)]
			.filter((text) => text !== block && contains(blockOf(block), blockOf(text)))
			.sort(),
	}));
const peer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
	fc.record({ namespaces: optionally(namespaceSelector), pods: podSelector }),
	block,
);
const rule = fc.record({
	peers: optionally(some(peer, 2, 1)),
	ports: optionally(some(port, 2, 1)),
});
const isRare = (one: number) => fc.integer({ min: 0, max: one - 1 }).map((n) => n === 0);

const networkPolicy: fc.Arbitrary<NetworkPolicyObject> = fc
	.record({
		...{ namespace: oneOf(...NAMESPACES), name: oneOf("p", "q", "r"), pods: podSelector },
		...{ ingress: optionally(some(rule, 2)), egress: optionally(some(rule, 2)) },
		...{ audit: isRare(6), isUnusable: isRare(40) },
	})
	.map(({ isUnusable, ...policy }) => (isUnusable ? { ...policy, unusable: "it is bad" } : policy));

const clusterPeer: fc.Arbitrary<ClusterPolicyPeer> = fc.oneof(
	{ weight: 3, arbitrary: fc.record({ namespaces: namespaceSelector, pods: podSelector }) },
	{ weight: 1, arbitrary: fc.record({ nodes: some(requirement(["zone"], ["a", "b"]), 1) }) },
	{ weight: 2, arbitrary: fc.record({ networks: some(oneOf(...BLOCKS), 2, 1) }) },
);
const clusterRule = (peer: fc.Arbitrary<ClusterPolicyPeer>) =>
	fc.record({
		...{ name: fc.constant(""), action: oneOf("Accept", "Deny", "Pass") },
		...{
			peers: some(peer, 2, 1),
			ports: optionally(some(clusterPort, 2, 1)),
			isUnknown: isRare(15),
		},
	}) as fc.Arbitrary<ClusterPolicyObject["ingress"][number]>;

const clusterPolicy: fc.Arbitrary<ClusterPolicyObject> = fc
	.record({
		...{ name: oneOf("c", "d", "e"), tier: oneOf("Admin", "Baseline"), priority: oneOf(1, 1, 5) },
		subject: fc.record({ namespaces: namespaceSelector, pods: podSelector }),
		ingress: some(clusterRule(fc.record({ namespaces: namespaceSelector, pods: podSelector })), 3),
		egress: some(clusterRule(clusterPeer), 3),
		...{ audit: isRare(6), isUnusable: isRare(50) },
	})
	.map(({ isUnusable, ...policy }) =>
		isUnusable ? { ...policy, unusable: "it is bad" } : policy,
	) as fc.Arbitrary<ClusterPolicyObject>;

const labels = (keys: readonly string[]) =>
	fc
		.tuple(...keys.map(() => oneOf("", "a", "b")))
		.map((values) => keys.flatMap((key, i) => (values[i] === "" ? [] : [key, values[i]!])));

const namespace: fc.Arbitrary<NamespaceObject> = fc
	.record({ name: oneOf(...NAMESPACES), labels: labels(["team"]), audit: isRare(8) })
	.map(({ name, labels, audit }) => ({ name, labels: [NAME_LABEL, name, ...labels], audit }));

const node: fc.Arbitrary<NodeObject> = fc
	.record({
		number: oneOf(1, 2, 3),
		labels: labels(["zone"]),
		external: fc.boolean(),
		second: isRare(4),
	})
	.map(({ number, labels, external, second }) => {
		const internalIPs = [`192.168.1.${number}`, `fd01::${number}`];
		if (second) internalIPs.push(`192.168.2.${number}`);
		return {
			...{ name: `n${number}`, internalIPs, transportAddresses: internalIPs, labels },
			podCIDRs: [`10.244.${number}.0/24`, `fd00:${number}::/64`],
			...(external ? { externalIPs: [`203.0.113.${number}`] } : {}),
		};
	});

const podOf = (nodes: readonly string[], addresses: readonly string[]): fc.Arbitrary<PodObject> =>
	fc
		.record({
			...{
				namespace: oneOf(...NAMESPACES),
				name: oneOf("p0", "p1", "p2", "p3"),
				node: oneOf(...nodes),
			},
			...{
				labels: labels(["app", "tier"]),
				addresses: some(oneOf(...addresses), 2, 1),
				created: oneOf(1, 2, 3),
			},
			...{ hostNetwork: isRare(12), ended: isRare(12), uid: oneOf("u", "u", "v") },
			ports: some(
				oneOf(
					{ name: "http", port: 80, protocol: "TCP" },
					{ name: "http", port: 8080, protocol: "TCP" },
					{ name: "dns", port: 53, protocol: "UDP" },
					{ name: "dns", port: 53, protocol: "TCP" },
				),
				2,
			),
		})
		.map((pod) => ({
			...pod,
			...{ limits: [], isReady: true, isTerminating: false },
			addresses: pod.hostNetwork ? ["192.168.1.2"] : [...new Set(pod.addresses)],
		}));
const LOCAL = PODS.slice(0, 6);
const localPod = podOf([HERE], LOCAL);
const pod = fc.oneof(localPod, podOf(["n1", "n2", "n3", ""], PODS));

/** An object comes or changes; `gone`: it goes. */
export type Change = {
	[K in PolicyKind]: { kind: K; object: PolicyObjects[K]; gone: boolean };
}[PolicyKind];

const change: fc.Arbitrary<Change> = fc
	.record({
		gone: isRare(4),
		what: fc.oneof(
			{ weight: 2, arbitrary: node.map((object) => ({ kind: "Node", object })) },
			{ weight: 2, arbitrary: namespace.map((object) => ({ kind: "Namespace", object })) },
			{ weight: 5, arbitrary: pod.map((object) => ({ kind: "Pod", object })) },
			{ weight: 5, arbitrary: networkPolicy.map((object) => ({ kind: "NetworkPolicy", object })) },
			{
				weight: 4,
				arbitrary: clusterPolicy.map((object) => ({ kind: "ClusterNetworkPolicy", object })),
			},
		),
	})
	.map(({ gone, what }) => ({ ...what, gone })) as fc.Arbitrary<Change>;

/** Of Pods, Nodes and hosts outside. */
export const ADDRESSES = [
	...PODS,
	...OUTSIDE,
	...["192.168.1.1", "192.168.1.2", "192.168.1.3", "192.168.2.2", "fd01::2", "203.0.113.2"],
	...["10.244.1.1", "10.244.2.1", "fd00:2::1"],
];

/** One end is a Pod of this Node, mostly. */
const flow: fc.Arbitrary<Flow> = fc
	.record({
		...{
			one: fc.oneof({ weight: 5, arbitrary: oneOf(...LOCAL) }, oneOf(...ADDRESSES)),
			turned: fc.boolean(),
		},
		...{
			other: oneOf(...ADDRESSES),
			protocol: oneOf(6, 6, 17, 132, 1, 58),
			port: oneOf(...NUMBERS),
		},
	})
	.map(({ one, other, turned, protocol, port }) => {
		const [source, destination] = turned ? [other, one] : [one, other];
		return { source, destination, protocol, port };
	});

export interface Story {
	start: Change[];
	changes: Change[];
	flows: Flow[];
}

const of = <K extends PolicyKind>(kind: K, one: fc.Arbitrary<PolicyObjects[K]>) =>
	one.map((object) => ({ kind, object, gone: false })) as unknown as fc.Arbitrary<Change>;

export const story: fc.Arbitrary<Story> = fc
	.record({
		nodes: some(of("Node", node), 4, 1),
		namespaces: some(of("Namespace", namespace), 3),
		locals: some(of("Pod", localPod), 6, 2),
		pods: some(of("Pod", pod), 6),
		policies: some(of("NetworkPolicy", networkPolicy), 7, 1),
		cluster: some(of("ClusterNetworkPolicy", clusterPolicy), 4),
		changes: some(change, 4, 1),
		flows: some(flow, 40, 1),
	})
	.map(({ nodes, namespaces, locals, pods, policies, cluster, changes, flows }) => ({
		start: [...nodes, ...namespaces, ...locals, ...pods, ...policies, ...cluster],
		...{ changes, flows },
	}));

function keyOfChange({ object }: Change): string {
	return "namespace" in object ? `${object.namespace}/${object.name}` : object.name;
}

/** What is known of a cluster, by kind and key. */
export class Objects {
	readonly #objects = new Map<PolicyKind, Map<string, PolicyObjects[PolicyKind]>>();

	get<K extends PolicyKind>(kind: K, key: string): PolicyObjects[K] | undefined {
		return this.of(kind).get(key);
	}

	of<K extends PolicyKind>(kind: K): Map<string, PolicyObjects[K]> {
		let objects = this.#objects.get(kind);
		if (objects === undefined) {
			objects = new Map();
			this.#objects.set(kind, objects);
		}
		return objects as Map<string, PolicyObjects[K]>;
	}

	/** Returns the key. */
	apply(change: Change): string {
		const key = keyOfChange(change);
		if (change.gone) this.of(change.kind).delete(key);
		else this.of(change.kind).set(key, change.object);
		return key;
	}

	cluster(): Cluster {
		return {
			nodes: [...this.of("Node").values()],
			namespaces: [...this.of("Namespace").values()],
			pods: [...this.of("Pod").values()],
			policies: [...this.of("NetworkPolicy").values()],
			clusterPolicies: [...this.of("ClusterNetworkPolicy").values()],
		};
	}
}
