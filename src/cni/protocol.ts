/**
 * What the plugin and the agent say to each other: `POST /cni` with a CniRequest, answered with
 * HTTP 200 and a CniResponse whenever the agent had a say, errors of CNI included.
 */

/** The parameters of one plugin invocation, as the runtime gave them. */
export interface CniRequest {
	/** CNI_COMMAND */
	command: string;
	/** CNI_CONTAINERID */
	containerId: string;
	/** CNI_NETNS */
	netns: string;
	/** CNI_IFNAME */
	ifName: string;
	/** CNI_ARGS */
	args: string;
	/** The network configuration of standard input, parsed but not validated. */
	config: unknown;
}

/** What the plugin does with it: prints `body` (nothing when undefined) and exits with `status`. */
export interface CniResponse {
	/** 0 done, 1 failed: `body` is a CNI error object. */
	status: 0 | 1;
	body?: unknown;
}
