/** Upstream's specs that no suite has, and why: the command leaves them out, and docs/CONFORMANCE.md says so. */

export interface LeftOut {
	/** For a reader. */
	specs: string;
	/** A regular expression over the names. */
	pattern: string;
	reason: string;
}

export const leftOut: readonly LeftOut[] = [
	{
		specs: "NetworkPolicy, ClusterNetworkPolicy",
		pattern: "Netpol|NetworkPolicy",
		reason: "Fairway has no policies yet",
	},
	{
		specs: "SCTP",
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
];
