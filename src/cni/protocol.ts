/**
 * The protocol between plugin and agent: `POST /cni` with a CniRequest, answered with HTTP 200 and a
 * CniResponse, even for CNI errors.
 */

/** The parameters of one plugin invocation, as given by the runtime. */
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
	/** The network configuration from standard input, parsed but not validated. */
	config: unknown;
}

/** The plugin prints `body` (nothing if undefined) and exits with `status`. */
export interface CniResponse {
	/** 0 done, 1 failed: `body` is a CNI error object. */
	status: 0 | 1;
	body?: unknown;
}
