/**
 * The policies of bench/policy.ts, as manifests by file name: those that let pod1 reach pod2, and others beside
 * them that apply to neither. Pods elsewhere are of one Node that exists only in manifests, beyond the router. Pure.
 */
export type Manifests = Record<string, readonly object[]>;

/** Policies say what they allow by ports, so that a new flow searches a port set. */
const PORTS = ["UDP", "TCP"].map((protocol) => ({ protocol, port: 1024, endPort: 65_535 }));
export const PODS = {
	first: "10.128.0.2",
	/** Of the Namespace whose label moves them all. */
	moving: 10_000,
	namespaces: 500,
} as const;
const OBJECTS_A_FILE = 2000;
export const MOVING_FILE = "moving.json";
const CROWD_CIDR = "10.128.0.0/14";

type Direction = "egress" | "ingress";
const KEYS = { egress: ["Egress", "to"], ingress: ["Ingress", "from"] } as const;

/** @param rules as in `spec.egress` or `spec.ingress`, with `peers` instead of `to` or `from` */
export function policy(
	name: string,
	app: string,
	direction: Direction,
	rules: readonly { peers: readonly object[]; ports?: readonly object[] }[],
	namespace = "default",
): object {
	const [type, key] = KEYS[direction];
	return {
		apiVersion: "networking.k8s.io/v1",
		kind: "NetworkPolicy",
		metadata: { name, namespace },
		spec: {
			podSelector: { matchLabels: { app } },
			policyTypes: [type],
			[direction]: rules.map(({ peers, ports }) => ({ [key]: peers, ...(ports && { ports }) })),
		},
	};
}

const podsOf = (app: string) => ({ podSelector: { matchLabels: { app } } });

/** pod1 and pod2 with labels: the lab's file of Pods. */
export const PODS_FILE: Manifests = {
	"pods.yaml": [1, 2].map((n) => ({
		apiVersion: "v1",
		kind: "Pod",
		metadata: { name: `pod${n}`, namespace: "default", labels: { app: `pod${n}` } },
		spec: { nodeName: `node${n}`, containers: [{ name: "main", image: "none" }] },
	})),
};

/** Egress of pod1 and ingress of pod2, each by the other's labels, and eight more elsewhere. */
export function tenPolicies(): Manifests {
	return {
		"client.json": [
			policy("client", "pod1", "egress", [{ peers: [podsOf("pod2")], ports: PORTS }]),
		],
		"server.json": [
			policy("server", "pod2", "ingress", [{ peers: [podsOf("pod1")], ports: PORTS }]),
		],
		...elsewhere(8),
	};
}

/** In other namespaces, 20 each. */
function elsewhere(count: number): Manifests {
	return inFiles(
		"elsewhere",
		Array.from({ length: count }, (_, i) =>
			policy(
				`p${i}`,
				`a${i % 40}`,
				i % 2 === 0 ? "ingress" : "egress",
				[{ peers: [podsOf(`b${i}`)], ports: PORTS }],
				`ns${Math.floor(i / 20)}`,
			),
		),
	);
}

/** 2,000 of them select pod1 or pod2, each about Pods that do not exist. */
export function manyPolicies(count: number): Manifests {
	const own = Array.from({ length: Math.min(2000, count >> 2) }, (_, i) =>
		policy(`own${i}`, i % 2 === 0 ? "pod1" : "pod2", i % 2 === 0 ? "egress" : "ingress", [
			{ peers: [podsOf(`c${i}`)], ports: [{ protocol: "UDP", port: 1 + (i % 1000) }] },
		]),
	);
	return { ...tenPolicies(), ...elsewhere(count - own.length - 2), ...inFiles("own", own) };
}

/** One policy for each direction, with so many rules, of which the last is the one that counts. */
export function manyRules(count: number): Manifests {
	const rules = (app: string) => [
		...Array.from({ length: count - 2 }, (_, i) => ({
			peers: [podsOf(`c${i}`)],
			ports: [{ protocol: "UDP", port: 1 + (i % 60_000) }],
		})),
		{ peers: [podsOf(app)], ports: PORTS },
	];
	return {
		"client.json": [policy("client", "pod1", "egress", rules("pod2"))],
		"server.json": [policy("server", "pod2", "ingress", rules("pod1"))],
	};
}

/** The other Pod's subnet is the last of so many prefixes. */
export function manyBlocks(count: number): Manifests {
	const blocks = (cidr: string) => [
		...Array.from({ length: count - 1 }, (_, i) => ({
			ipBlock: { cidr: `100.${64 + (i >> 8)}.${i & 255}.0/24` },
		})),
		{ ipBlock: { cidr } },
	];
	return {
		"client.json": [
			policy("client", "pod1", "egress", [{ peers: blocks("10.244.2.0/24"), ports: PORTS }]),
		],
		"server.json": [
			policy("server", "pod2", "ingress", [{ peers: blocks("10.244.1.0/24"), ports: PORTS }]),
		],
	};
}

/** Both allow others only. */
export function denials(): Manifests {
	return {
		"client.json": [
			policy("client", "pod1", "egress", [{ peers: [podsOf("other")], ports: PORTS }]),
		],
		"server.json": [
			policy("server", "pod2", "ingress", [{ peers: [podsOf("other")], ports: PORTS }]),
		],
	};
}

/** So many Pods elsewhere, each with an entry, since pod1 may reach those of namespaces with team=a. */
export function crowd(count: number): Manifests {
	const node = {
		apiVersion: "v1",
		kind: "Node",
		metadata: { name: "crowd" },
		spec: { podCIDRs: [CROWD_CIDR] },
		status: { addresses: [{ type: "InternalIP", address: "172.16.0.1" }] },
	};
	const namespaces = Array.from({ length: PODS.namespaces }, (_, i) => namespace(`ns${i}`, "a"));
	const team = { namespaceSelector: { matchLabels: { team: "a" } } };
	return {
		"crowd-node.json": [node],
		...inFiles("namespaces", namespaces),
		[MOVING_FILE]: [namespace("moving", "a")],
		"reach.json": [policy("reach", "pod1", "egress", [{ peers: [team], ports: PORTS }])],
		...inFiles(
			"crowd",
			Array.from({ length: count }, (_, i) => crowdPod(i)),
		),
	};
}

export function namespace(name: string, team: string): object {
	const labels = { "kubernetes.io/metadata.name": name, team };
	return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

/** The first ones are in the Namespace that moves. Twenty Pods are one workload. */
export function crowdPod(i: number, labels: Record<string, string> = {}): object {
	const workload = Math.floor(i / 20);
	const namespace = i < PODS.moving ? "moving" : `ns${workload % PODS.namespaces}`;
	const ip = crowdAddress(i);
	return {
		apiVersion: "v1",
		kind: "Pod",
		metadata: {
			...{ name: `crowd-${i}`, namespace, uid: `crowd-${i}` },
			labels: { app: `a${workload}`, ...labels },
		},
		spec: { nodeName: "crowd", containers: [{ name: "main", image: "none" }] },
		status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
	};
}

export function crowdAddress(i: number): string {
	const n = i + 2;
	return `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

function inFiles(name: string, objects: readonly object[]): Manifests {
	const files: Record<string, object[]> = {};
	for (let i = 0; i < objects.length; i += OBJECTS_A_FILE) {
		const items = objects.slice(i, i + OBJECTS_A_FILE);
		files[`${name}-${i / OBJECTS_A_FILE}.json`] = [{ apiVersion: "v1", kind: "List", items }];
	}
	return files;
}
