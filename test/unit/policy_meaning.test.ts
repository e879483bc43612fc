/**
 * What policies mean, in the cases that users of other systems suffered from. Each row is judged by the
 * interpreter and by the compiled tables of the Node n1.
 */
import assert from "node:assert/strict";
import t from "tap";
import type { Flow } from "../../src/policy/interpreter.js";
import { clusterOf } from "../../src/policy/manifests.js";
import type { Change } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";

const node = (number: number, extra: object[] = []) => ({
	...{
		apiVersion: "v1",
		kind: "Node",
		metadata: { name: `n${number}`, labels: { zone: number === 2 ? "a" : "b" } },
	},
	spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:${number}::/64`] },
	status: {
		addresses: [
			{ type: "InternalIP", address: `192.168.1.${number}` },
			{ type: "InternalIP", address: `fd01::${number}` },
			...extra,
		],
	},
});
const space = (name: string, labels: object = {}) => ({
	apiVersion: "v1",
	kind: "Namespace",
	metadata: { name, labels },
});

interface PodShape {
	labels?: object;
	ports?: object[];
	spec?: object;
	phase?: string;
	created?: string;
	deleted?: string;
}
/** "x/a" on the Node that the address belongs to. */
function pod(
	name: string,
	host: string,
	{ labels = {}, ports = [], spec = {}, phase = "Running", created, deleted }: PodShape = {},
) {
	const [namespace, plain] = name.split("/");
	const [number, last] = host.split(".");
	const podIPs = (spec as { hostNetwork?: boolean }).hostNetwork
		? [{ ip: `192.168.1.${number}` }]
		: [{ ip: `10.244.${number}.${last}` }, { ip: `fd00:${number}::${last}` }];
	return {
		...{ apiVersion: "v1", kind: "Pod" },
		metadata: {
			...{ namespace, name: plain, labels: { app: plain, ...labels } },
			...(created === undefined ? {} : { creationTimestamp: created }),
			...(deleted === undefined ? {} : { deletionTimestamp: deleted }),
		},
		spec: { nodeName: `n${number}`, containers: [{ name: "c", ports }], ...spec },
		status: { podIPs, phase },
	};
}
const network = (namespace: string, name: string, spec: object, metadata: object = {}) => ({
	...{
		apiVersion: "networking.k8s.io/v1",
		kind: "NetworkPolicy",
		metadata: { namespace, name, ...metadata },
		spec: { podSelector: {}, ...spec },
	},
});
const cluster = (name: string, spec: object, version = "v1beta1") => ({
	...{
		apiVersion: `policy.networking.k8s.io/${version}`,
		kind: "ClusterNetworkPolicy",
		metadata: { name },
	},
	spec: { tier: "Admin", priority: 10, subject: { namespaces: {} }, ...spec },
});
const block = (cidr: string, except: string[] = []) => ({
	ipBlock: { cidr, ...(except.length === 0 ? {} : { except }) },
});
const app = (name: string) => ({ podSelector: { matchLabels: { app: name } } });
const toBlock = (cidr: string, except?: string[]) =>
	network("x", "p", { policyTypes: ["Egress"], egress: [{ to: [block(cidr, except)] }] });
const fromBlock = (cidr: string, except?: string[]) =>
	network("x", "p", { ingress: [{ from: [block(cidr, except)] }] });
const DENY_INGRESS = network("x", "deny", {});
const DENY_EGRESS = network("x", "deny", { policyTypes: ["Egress"] });

const BASE = [
	node(1),
	node(2),
	space("x", { team: "a" }),
	space("y", { team: "b" }),
	pod("x/a", "1.2"),
	pod("x/b", "1.3"),
	pod("y/c", "2.2"),
	pod("y/d", "2.3"),
];
const A = "10.244.1.2";
const B = "10.244.1.3";
const C = "10.244.2.2";
const D = "10.244.2.3";
const [A6, C6] = ["fd00:1::2", "fd00:2::2"];

/** "A > B tcp/80": source, destination, protocol and port. */
function flowOf(text: string): Flow {
	const [, source = "", destination = "", kind = "tcp", port = "80"] =
		/^(\S+) > (\S+)(?: (\w+)(?:\/(\d+))?)?$/.exec(text)!;
	const protocol = { tcp: 6, udp: 17, sctp: 132, icmp: 1, icmp6: 58 }[kind]!;
	return {
		source,
		destination,
		protocol,
		port: protocol === 1 || protocol === 58 ? 0 : Number(port),
	};
}

function changesOf(objects: readonly object[], gone = false): Change[] {
	const { nodes, namespaces, pods, policies, clusterPolicies } = clusterOf(objects);
	const of = (kind: string, list: readonly object[]) =>
		list.map((object) => ({ kind, object, gone }));
	return [
		...of("Node", nodes),
		...of("Namespace", namespaces),
		...of("Pod", pods),
		...of("NetworkPolicy", policies),
		...of("ClusterNetworkPolicy", clusterPolicies),
	] as Change[];
}

/** `passes` and `dropped` at n1 by what its Pods' policies say. */
function check(site: PolicySite, passes: readonly string[], dropped: readonly string[]): void {
	for (const [texts, wanted] of [
		[passes, true],
		[dropped, false],
	] as const)
		for (const text of texts) {
			const flow = flowOf(text);
			site.check(flow);
			const { egress, ingress } = site.verdicts(flow);
			const isDenied = [egress, ingress].some((one) => one?.startsWith("deny") || one === "closed");
			assert.equal(!isDenied, wanted, `${text}: ${JSON.stringify({ egress, ingress })}`);
		}
}

interface Row {
	title: string;
	objects: object[];
	passes?: string[];
	dropped?: string[];
	/** What changes then, and what holds afterwards. */
	afterwards?: { put?: object[]; gone?: object[]; passes?: string[]; dropped?: string[] }[];
}

const named = (port: number, protocol = "TCP") => ({
	ports: [{ name: "web", containerPort: port, protocol }],
});
const toNamed = network("x", "p", {
	policyTypes: ["Egress"],
	egress: [{ to: [{ namespaceSelector: {} }], ports: [{ port: "web" }] }],
});

const ROWS: Row[] = [
	// Who an address is.
	{
		title:
			"an ipBlock that covers a Pod's address matches the Pod (cilium#9209, cilium#19601, cilium#9998, terway#904)",
		objects: [toBlock(`${C}/32`)],
		passes: [`${A} > ${C}`],
		dropped: [`${A} > ${D}`],
	},
	{
		title:
			"a block with a Node's address matches that Node by its gateway too (cilium#12277, cilium#35401)",
		objects: [fromBlock("192.168.1.2/32")],
		passes: [`192.168.1.2 > ${A}`, `10.244.2.1 > ${A}`],
		dropped: [`${C} > ${A}`, `192.168.1.3 > ${A}`],
	},
	{
		title: "a block with a Node's gateway matches its InternalIP too (cilium#35401)",
		objects: [toBlock("10.244.2.1/32")],
		passes: [`${A} > 192.168.1.2`, `${A} > 10.244.2.1`],
		dropped: [`${A} > 192.168.1.3`, `${A} > fd01::2`],
	},
	{
		title: "an except with a Node's InternalIP excepts its gateway too (cilium#12277)",
		objects: [toBlock("0.0.0.0/0", ["192.168.1.2/32"])],
		passes: [`${A} > 8.8.8.8`, `${A} > ${C}`],
		dropped: [`${A} > 192.168.1.2`, `${A} > 10.244.2.1`],
	},
	{
		title:
			"ports of a wide CIDR are not given to an excepted inner one (aws-npa#180, aws-npa#344, aws-npa#347)",
		objects: [
			network("x", "p", {
				policyTypes: ["Egress"],
				egress: [
					{ to: [block("8.0.0.0/8", ["8.8.0.0/16"])], ports: [{ port: 80 }] },
					{ to: [block("8.8.8.0/24")], ports: [{ port: 443 }] },
				],
			}),
		],
		passes: [`${A} > 8.1.1.1 tcp/80`, `${A} > 8.8.8.8 tcp/443`],
		dropped: [`${A} > 8.8.8.8 tcp/80`, `${A} > 8.8.1.1 tcp/443`, `${A} > 8.1.1.1 tcp/443`],
	},
	{
		title: "except holds under 0.0.0.0/0 (aws-npa#92, aws-npa#58)",
		objects: [toBlock("0.0.0.0/0", ["8.8.8.0/24"])],
		passes: [`${A} > 8.8.9.1`],
		dropped: [`${A} > 8.8.8.8`, `${A6} > 2001:db8::1`],
	},
	{
		title: "spellings of one CIDR are one prefix (aws-npa#609)",
		objects: [
			network("x", "p", {
				policyTypes: ["Egress"],
				egress: [
					{ to: [block("8.8.8.8/24")], ports: [{ port: 80 }] },
					{ to: [block("8.8.8.0/24")], ports: [{ port: 443 }] },
				],
			}),
		],
		passes: [`${A} > 8.8.8.1 tcp/80`, `${A} > 8.8.8.1 tcp/443`],
		dropped: [`${A} > 8.8.8.1 tcp/81`],
	},
	{
		title: "overlapping CIDR and except of two rules are two sets (upstream e2e)",
		objects: [
			network("x", "p", {
				policyTypes: ["Egress"],
				egress: [
					{ to: [block("10.244.2.0/24", ["10.244.2.2/32"])] },
					{ to: [block("10.244.2.2/32")] },
				],
			}),
		],
		passes: [`${A} > ${C}`, `${A} > ${D}`],
		dropped: [`${A} > ${B}`],
	},
	{
		title: "one port name, a number of its own for each Pod (cilium#24779, cilium#30003)",
		objects: [pod("y/c", "2.2", named(8080)), pod("y/d", "2.3", named(9090)), toNamed],
		passes: [`${A} > ${C} tcp/8080`, `${A} > ${D} tcp/9090`],
		dropped: [
			`${A} > ${C} tcp/9090`,
			`${A} > ${D} tcp/8080`,
			`${A} > ${C} udp/8080`,
			`${A} > 8.8.8.8 tcp/8080`,
		],
	},
	{
		title:
			"port names of sidecar init containers count, those of other init containers do not (calico#8881, k8s#125285)",
		objects: [
			pod("y/c", "2.2", {
				spec: { initContainers: [{ name: "s", restartPolicy: "Always", ...named(8080) }] },
			}),
			pod("y/d", "2.3", { spec: { initContainers: [{ name: "s", ...named(8080) }] } }),
			toNamed,
		],
		passes: [`${A} > ${C} tcp/8080`],
		dropped: [`${A} > ${D} tcp/8080`],
	},
	{
		title: "an empty namespaceSelector does not let the outside in (cilium#4513)",
		objects: [network("x", "p", { ingress: [{ from: [{ namespaceSelector: {} }] }] })],
		passes: [`${C} > ${A}`, `${B} > ${A}`],
		dropped: [`8.8.8.8 > ${A}`, `192.168.1.2 > ${A}`],
	},
	{
		title: "hostNetwork Pods are neither subject nor peer (KNP#380, antrea#3078, kube-router#1067)",
		objects: [
			pod("x/h", "2.9", { spec: { hostNetwork: true } }),
			network("x", "p", {
				policyTypes: ["Ingress", "Egress"],
				ingress: [{ from: [app("h")] }],
				egress: [{ to: [app("h")] }],
			}),
		],
		dropped: [`192.168.1.2 > ${A}`, `${A} > 192.168.1.2`],
		passes: [`192.168.1.2 > ${C}`],
	},
	{
		title:
			"a finished Pod's rules do not hit the next owner of its address (kube-router#1056, NPM#428, antrea#6507, aws-npc#190)",
		objects: [
			pod("y/c", "2.2", { phase: "Succeeded", created: "2026-01-02T00:00:00Z" }),
			pod("y/e", "2.2", { created: "2026-01-01T00:00:00Z" }),
			network("x", "p", { ingress: [{ from: [{ namespaceSelector: {}, ...app("c") }] }] }),
		],
		dropped: [`${C} > ${A}`],
		afterwards: [
			{ put: [pod("y/c", "2.2", { created: "2026-01-02T00:00:00Z" })], passes: [`${C} > ${A}`] },
		],
	},
	{
		title: "a terminating Pod keeps its identity until it is gone (calico#4518)",
		objects: [
			pod("y/c", "2.2", { deleted: "2026-01-01T00:00:00Z" }),
			network("x", "p", { ingress: [{ from: [{ namespaceSelector: {}, ...app("c") }] }] }),
		],
		passes: [`${C} > ${A}`],
		afterwards: [{ gone: [pod("y/c", "2.2")], dropped: [`${C} > ${A}`] }],
	},
	{
		title:
			"a ClusterNetworkPolicy with 0.0.0.0/0 and ::/0 means each for its family (calico#12851)",
		objects: [
			cluster("c", { egress: [{ action: "Deny", to: [{ networks: ["0.0.0.0/0", "::/0"] }] }] }),
		],
		dropped: [`${A} > ${C}`, `${A} > 8.8.8.8 icmp`, `${A6} > 2001:db8::1`, `${A6} > ${C6} icmp6`],
		passes: [`${C} > ${A}`],
	},
	{
		title: "an IPv4 block never matches IPv6, and ::/0 is not 0.0.0.0/0 (antrea#1236)",
		objects: [toBlock("::/0")],
		passes: [`${A6} > ${C6}`, `${A6} > 2001:db8::1`],
		dropped: [`${A} > ${C}`, `${A} > 8.8.8.8`],
	},
	// What a policy says.
	{
		title: "endPort is a range, both ends included (cilium#28684)",
		objects: [network("x", "p", { ingress: [{ ports: [{ port: 80, endPort: 90 }] }] })],
		passes: [`${C} > ${A} tcp/80`, `${C} > ${A} tcp/90`],
		dropped: [`${C} > ${A} tcp/79`, `${C} > ${A} tcp/91`, `${C} > ${A} udp/85`],
	},
	{
		title:
			"an SCTP rule is never TCP, and the isolation stays (k8s#102509, calico-cni#839, aci#1753)",
		objects: [network("x", "p", { ingress: [{ ports: [{ port: 80, protocol: "SCTP" }] }] })],
		passes: [`${C} > ${A} sctp/80`],
		dropped: [`${C} > ${A} tcp/80`],
	},
	{
		title:
			"a namespace's label that comes or goes counts at once (kube-ovn#1920, ovn-k#1850, aws-npa#605)",
		objects: [
			network("x", "p", {
				ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "b" } } }] }],
			}),
		],
		passes: [`${C} > ${A}`],
		afterwards: [
			{ put: [space("y", { team: "c" })], dropped: [`${C} > ${A}`] },
			{ put: [space("y", { team: "b" })], passes: [`${C} > ${A}`] },
		],
	},
	{
		title:
			"a changed podSelector leaves nothing on Pods that are no longer selected (aws-npa#643, aws-npa#645)",
		objects: [network("x", "p", { ...app("a") })],
		dropped: [`${C} > ${A}`],
		passes: [`${C} > ${B}`],
		afterwards: [
			{
				put: [network("x", "p", { ...app("b") })],
				passes: [`${C} > ${A}`],
				dropped: [`${C} > ${B}`],
			},
		],
	},
	{
		title:
			"a Pod reaches itself by its Service, and egress means the backend (k8s#125611, antrea#5687, kube-router#905, ovn-k#370)",
		objects: [DENY_INGRESS, network("x", "deny2", { policyTypes: ["Egress"] })],
		passes: [`${A} > ${A}`],
		dropped: [`${A} > ${B}`],
	},
	{
		title: "a ClusterNetworkPolicy is asked where a Pod reaches itself by its Service (npapi#390)",
		objects: [
			DENY_INGRESS,
			cluster("c", { ingress: [{ action: "Deny", from: [{ namespaces: {} }] }] }),
		],
		dropped: [`${A} > ${A}`],
	},
	// Whose traffic passes.
	{
		title:
			"the Node's own packets reach its Pods in both families: probes (KNP#65, KNP#150, aws-npa#56)",
		objects: [DENY_INGRESS],
		passes: [`192.168.1.1 > ${A}`, `10.244.1.1 > ${A}`, `fd01::1 > ${A6}`],
		dropped: [`192.168.1.2 > ${A}`],
	},
	{
		title: "a Pod's packets to its own Node are judged",
		objects: [DENY_EGRESS],
		dropped: [`${A} > 192.168.1.1`, `${A} > 10.244.1.1`],
	},
	{
		title:
			"an outside client of a NodePort is judged as itself, and a masquerading Node as that Node (antrea#280, cilium#17144, cilium#23603)",
		objects: [fromBlock("203.0.113.0/24")],
		passes: [`203.0.113.9 > ${A}`],
		dropped: [`192.168.1.2 > ${A}`, `10.244.2.1 > ${A}`],
	},
	{
		title:
			"a new deny holds for what was allowed before (calico#2759, calico#6399, cilium#1667, cilium#2408, cilium#14040)",
		objects: [],
		passes: [`${C} > ${A}`],
		afterwards: [
			{ put: [DENY_INGRESS], dropped: [`${C} > ${A}`] },
			{ gone: [DENY_INGRESS], passes: [`${C} > ${A}`] },
		],
	},
	// What upstream's suites cover besides.
	{
		title: "deny-all denies ping, and a rule without ports allows every protocol",
		objects: [network("x", "p", { ingress: [{ from: [{ namespaceSelector: {}, ...app("c") }] }] })],
		passes: [`${C} > ${A} icmp`, `${C} > ${A} sctp/9`],
		dropped: [`${D} > ${A} icmp`],
	},
	{
		title: "a rule with ports does not allow ping",
		objects: [network("x", "p", { ingress: [{ ports: [{ protocol: "TCP" }] }] })],
		passes: [`${C} > ${A} tcp/1`],
		dropped: [`${C} > ${A} icmp`, `${C} > ${A} udp/1`],
	},
	{
		title: "both conditions of one peer hold together, two peers either (docs)",
		objects: [
			network("x", "p", {
				ingress: [
					{ from: [{ namespaceSelector: { matchLabels: { team: "b" } }, ...app("c") }, app("b")] },
				],
			}),
		],
		passes: [`${C} > ${A}`, `${B} > ${A}`],
		dropped: [`${D} > ${A}`],
	},
	{
		title:
			"Admin comes before NetworkPolicy, Pass leaves the tier, Baseline comes for Pods that are not isolated",
		objects: [
			cluster("c", {
				ingress: [
					{
						action: "Pass",
						from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: "d" } } } }],
					},
					{ action: "Accept", from: [{ namespaces: { matchLabels: { team: "b" } } }] },
				],
			}),
			network("x", "p", { ...app("a") }),
			cluster("b", { tier: "Baseline", ingress: [{ action: "Deny", from: [{ namespaces: {} }] }] }),
		],
		passes: [`${C} > ${A}`, `${C} > ${B}`, `8.8.8.8 > ${B}`],
		dropped: [`${D} > ${A}`, `${D} > ${B}`, `${B} > ${A}`, `8.8.8.8 > ${A}`],
	},
	{
		title: "a lower priority number comes first, v1alpha2 and v1beta1 alike",
		objects: [
			cluster(
				"one",
				{ priority: 5, ingress: [{ action: "Accept", from: [{ namespaces: {} }] }] },
				"v1alpha2",
			),
			cluster("two", {
				priority: 4,
				ingress: [{ action: "Deny", from: [{ namespaces: { matchLabels: { team: "b" } } }] }],
			}),
		],
		passes: [`${B} > ${A}`],
		dropped: [`${C} > ${A}`],
	},
	{
		title:
			"a peer of a newer API fails closed: Accept matches nothing, Deny and Pass deny everything",
		objects: [
			cluster("c", {
				ingress: [
					{ action: "Accept", from: [{ namespaces: {} }, { robots: {} }] },
					{ action: "Pass", from: [{ robots: {} }] },
				],
			}),
		],
		dropped: [`${C} > ${A}`, `8.8.8.8 > ${A}`],
	},
	{
		title: "nodes of a ClusterNetworkPolicy are their status' addresses",
		objects: [
			node(2, [{ type: "ExternalIP", address: "203.0.113.2" }]),
			cluster("c", {
				egress: [{ action: "Deny", to: [{ nodes: { matchLabels: { zone: "a" } } }] }],
			}),
		],
		dropped: [`${A} > 192.168.1.2`, `${A} > 203.0.113.2`, `${A6} > fd01::2`],
		passes: [`${A} > 192.168.1.1`, `${A} > ${C}`],
	},
	{
		title: "a staged policy changes no verdict",
		objects: [network("x", "p", {}, { annotations: { "fairway.dev/audit": "true" } })],
		passes: [`${C} > ${A}`],
	},
];

for (const { title, objects, passes = [], dropped = [], afterwards = [] } of ROWS)
	t.test(title, async () => {
		const site = new PolicySite();
		site.take(site.compile(changesOf([...BASE, ...objects])).writes);
		check(site, passes, dropped);
		for (const { put = [], gone = [], passes = [], dropped = [] } of afterwards) {
			site.take(site.compile([...changesOf(put), ...changesOf(gone, true)]).writes);
			check(site, passes, dropped);
		}
	});
