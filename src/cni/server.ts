/**
 * The agent's side of the CNI plugin: attaches Pods to this Node and detaches them.
 */
import type { Endpoint } from "./endpoint.js";
import type { CniRequest, CniResponse } from "./protocol.js";

/** What the server has to know of this Node; the agent's SelfView has all of it. */
export interface NodeView {
	podCIDRs: readonly string[];
	podMTU: number;
	/** Of every veth's host side. */
	gatewayMac: string;
}

export interface CniServerOptions {
	/** Endpoints are kept in RUN_DIR/endpoints. */
	runDir: string;
	log: {
		info(facts: object, message: string): void;
		warn(facts: object, message: string): void;
		error(facts: object, message: string): void;
	};
	/** undefined: this Node is not yet known; ADD then asks the runtime to try again later. */
	self: () => NodeView | undefined;
	/**
	 * Called with the new list after each change. The promise resolves when the data path of every
	 * endpoint in it is attached; ADD answers after that. A rejection rolls the ADD back.
	 */
	onEndpointsChanged: (endpoints: Endpoint[]) => Promise<void>;
}

export class CniServer {
	/** Reads RUN_DIR/endpoints (synchronously), so that endpoints() is complete at once. */
	constructor(_options: CniServerOptions) {
		throw new Error("Cannot open the CNI server: it is being written");
	}

	/** Never rejects: what fails is a CNI error object in the answer. */
	handle(_request: CniRequest): Promise<CniResponse> {
		throw new Error("Cannot answer: the CNI server is being written");
	}

	/** Every attached endpoint, in the order of attaching. */
	endpoints(): Endpoint[] {
		return [];
	}

	/** Sentences for `fairway status`: endpoints outside of the pod CIDRs, vanished namespaces. */
	problems(): string[] {
		return [];
	}

	/** Brings both veth ends of every Pod to the Node's current podMTU; no packet is lost. */
	async updateMTU(): Promise<void> {}
}
