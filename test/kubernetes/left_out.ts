/** Upstream's specs that no suite has, and why; docs/CONFORMANCE.md says so. */

export interface LeftOut {
	/** For a reader. */
	specs: string;
	/** A regular expression over the names. */
	pattern: string;
	reason: string;
}

/** Those that no suite has: the command leaves them out. */
export const leftOut: readonly LeftOut[] = [
	{
		specs: "SCTP, but for network policies",
		pattern: "SCTP",
		reason: "the machine's kernel has no SCTP",
	},
	{
		specs: "Internet connection for containers",
		pattern: "Internet connection",
		reason: "the cluster has no Internet",
	},
	{
		specs: "LocalhostNodePorts",
		pattern: "LocalhostNodePorts",
		reason: "NodePorts on loopback are kube-proxy's own userspace proxy",
	},
	{
		specs: "KubeProxy, kube-proxy urls, restart of kube-proxy, iptables re-creation",
		pattern: "KubeProxy|kube-proxy|recreate its iptables rules",
		reason: "tests of kube-proxy itself",
	},
	{
		specs: "Services after a restart of the API server",
		pattern: "Disruptive",
		reason: "restarts by SSH",
	},
	{
		specs: "LoadBalancers: only target nodes with endpoints",
		pattern: "should only target nodes with endpoints",
		reason: "the spec asks for IPv6 health checks without brackets around the address",
	},
	{
		specs: "Traffic distribution with several Nodes in a zone",
		pattern: "between pods on multiple nodes|same node or fall back to same zone",
		reason: "they need six Nodes",
	},
	{
		specs: "Services: rejected for evicted pods",
		pattern: "evicted pods",
		reason: "the kubelets evict nothing on a machine that they share",
	},
	{
		specs: "Conntrack: invalid conntrack state",
		pattern: "invalid conntrack state",
		reason: "its image cannot be built from a Go module",
	},
	{
		specs: "DNS configMap, DNS on GCE",
		pattern: "DNS configMap|Provider:gce",
		reason: "tests of another DNS deployment",
	},
	{
		specs: "IPerf2, DNS for the maximum number of Services",
		pattern: "iperf2|maximum number of services",
		reason: "load tests",
	},
];
