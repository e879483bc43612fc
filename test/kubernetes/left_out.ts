/** Upstream's specs that no suite has, and why; docs/CONFORMANCE.md says so. */

export interface LeftOut {
	/** For a reader. */
	specs: string;
	/** A regular expression over the names. A spec that several have belongs to the first. */
	pattern: string;
	/** How many of [sig-network] it leaves out; inventory.ts compares. */
	count: number;
	reason: string;
}

/** Those that no suite has: the command leaves them out. */
export const leftOut: readonly LeftOut[] = [
	{
		specs: "Granular Checks by SCTP, of Pods and of Services",
		pattern: "SCTPConnectivity",
		count: 6,
		reason: "they send data by SCTP, which the machine's kernel does not have",
	},
	{
		specs: "Internet connection for containers",
		pattern: "Internet connection",
		count: 3,
		reason: "the cluster has no Internet",
	},
	{
		specs: "LocalhostNodePorts",
		pattern: "LocalhostNodePorts",
		count: 3,
		reason: "NodePorts on loopback are kube-proxy's own userspace proxy",
	},
	{
		specs: "KubeProxy, kube-proxy urls, restart of kube-proxy, iptables re-creation",
		pattern: "KubeProxy|kube-proxy|recreate its iptables rules",
		count: 5,
		reason: "tests of kube-proxy itself",
	},
	{
		specs: "Services after a restart of the API server",
		pattern: "Disruptive",
		count: 1,
		reason: "restarts by SSH",
	},
	{
		specs: "LoadBalancers: only target nodes with endpoints",
		pattern: "should only target nodes with endpoints",
		count: 1,
		reason: "the spec asks for IPv6 health checks without brackets around the address",
	},
	{
		specs: "Traffic distribution with several Nodes in a zone",
		pattern: "between pods on multiple nodes|same node or fall back to same zone",
		count: 3,
		reason: "they need six Nodes",
	},
	{
		specs: "Services: rejected for evicted pods",
		pattern: "evicted pods",
		count: 1,
		reason: "the kubelets evict nothing on a machine that they share",
	},
	{
		specs: "Conntrack: invalid conntrack state",
		pattern: "invalid conntrack state",
		count: 1,
		reason: "its image cannot be built from a Go module",
	},
	{
		specs: "DNS configMap, DNS on GCE",
		pattern: "DNS configMap|Provider:gce",
		count: 4,
		reason: "tests of another DNS deployment",
	},
	{
		specs: "IPerf2, DNS for the maximum number of Services",
		pattern: "iperf2|maximum number of services",
		count: 2,
		reason: "load tests",
	},
];
