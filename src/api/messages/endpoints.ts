/** Messages of the agent's socket: Pod interfaces of this Node. */

/** `GET /endpoints`: an entry for each local Pod interface. */
export interface EndpointStatus {
	containerId: string;
	ifName: string;
	netns: string;
	/** Without prefix length. */
	addresses: string[];
	mac: string;
	hostInterface: string;
	namespace?: string;
	name?: string;
}
