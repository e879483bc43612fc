/**
 * The agent's side of the CNI plugin: handles its requests.
 *
 *  1 validates the parameters
 *  2 processes DELs and GCs that were noted while no agent ran
 *  3 executes the command      4 returns the answer or an error object
 */

import type { IpRoute } from "../linux/iproute.js";
import type { Log } from "../text/log.js";
import { forgetNote, type Note, readNotes } from "./deletions.js";
import { describe, type Endpoint, endpointKey } from "./endpoint.js";
import { CniError, ErrorCode, errorObject } from "./errors.js";
import { inspect } from "./inspection.js";
import { KeyedLock } from "./lock.js";
import { checkNamespace, isAttached } from "./plumbing.js";
import { type NodeView, Pods } from "./pods.js";
import type { CniRequest, CniResponse } from "./protocol.js";
import {
	type Attachment,
	answerVersion,
	type NetworkConfiguration,
	parseRequest,
} from "./request.js";
import { addResult, type Result } from "./result.js";

export type { NodeView } from "./pods.js";

export interface CniServerOptions {
	/** Endpoints are stored in RUN_DIR/endpoints. */
	runDir: string;
	/** iproute2 in the network namespace of this process. */
	ip: IpRoute;
	log: Pick<Log, "info" | "warn">;
	/** undefined: this Node is not yet known; ADD then asks the runtime to retry later. */
	self: () => NodeView | undefined;
	/**
	 * Called with the list after each change, and with the endpoint of an ADD or CHECK, if any. The promise
	 * resolves when its data path is attached; ADD answers after that. A rejection undoes an ADD and fails a
	 * CHECK; after a DEL it is logged.
	 */
	onEndpointsChanged: (endpoints: Endpoint[], added?: Endpoint) => Promise<void>;
	/** Called for a Pod that was attached without the bandwidth limit that it asks for. */
	onUnlimited?: (endpoint: Endpoint) => void;
}

export class CniServer {
	readonly #options: CniServerOptions;
	readonly #pods: Pods;
	readonly #lock = new KeyedLock();

	/** Reads RUN_DIR/endpoints, blocking, so that endpoints() is complete immediately. */
	constructor(options: CniServerOptions) {
		this.#options = options;
		const { runDir, ip, log, onEndpointsChanged } = options;
		this.#pods = new Pods({ runDir, ip, log, onChange: onEndpointsChanged });
	}

	/** Every attached endpoint, in order of attachment. */
	endpoints(): Endpoint[] {
		return this.#pods.list();
	}

	/** Never rejects: failures become CNI error objects in the answer. */
	async handle(request: CniRequest): Promise<CniResponse> {
		try {
			const body = await this.#answer(request);
			return body === undefined ? { status: 0 } : { status: 0, body };
		} catch (error) {
			const body = errorObject(error, answerVersion(request?.config));
			const { command, containerId, ifName } = (request ?? {}) as Partial<CniRequest>;
			const fields = { command, containerId, ifName, code: body.code, details: body.details };
			this.#options.log.warn({ ...fields, err: body.msg }, "CNI request failed");
			return { status: 1, body };
		}
	}

	/**
	 * Processes the DELs and GCs that the plugin noted while no agent ran. Call once the socket listens; every call
	 * of the plugin does it as well.
	 */
	workOffDeletions(): Promise<void> {
		// One at a time: a note must be removed before the same key is attached again.
		return this.#lock.run("deletions", async () => {
			for (const note of await readNotes(this.#options.runDir)) {
				try {
					await this.#workOff(note);
					await forgetNote(note);
				} catch (error) {
					// Retried at the next call.
					const fields = { file: note.path, err: error };
					this.#options.log.warn(fields, "cannot process a noted call, will retry");
				}
			}
		});
	}

	/**
	 * Sets every Pod to the Node's current podMTU without packet loss; call when it may have changed. Never
	 * rejects: failures are logged and retried by the next call.
	 */
	updateMTU(): Promise<void> {
		return this.#lock.run("mtu", async () => {
			const mtu = this.#options.self()?.podMTU;
			if (mtu === undefined) return;
			try {
				await this.#pods.updateMTU(mtu);
			} catch (error) {
				this.#options.log.warn({ mtu, err: error }, "cannot change Pod MTU");
			}
		});
	}

	/** Sentences for `fairway status`. */
	problems(): string[] {
		const { unreadable } = this.#pods;
		const problems = unreadable.map((path) => `The endpoint record ${path} is unreadable.`);
		const node = this.#options.self();
		for (const endpoint of this.endpoints()) {
			const { hostInterface, addresses, netns } = endpoint;
			const pod = `${describe(endpoint)} (${addresses.join(", ")})`;
			if (!isAttached(hostInterface))
				problems.push(`${pod} has no interface any more: its namespace ${netns} has vanished.`);
			if (node !== undefined && !this.#pods.isWithin(endpoint, node))
				problems.push(`${pod} has an address outside of this Node's pod CIDRs.`);
		}
		const limited = this.endpoints().filter((endpoint) => endpoint.wantsBandwidthLimit);
		if (limited.length > 0) problems.push(unlimited(limited));
		return problems;
	}

	async #answer(request: CniRequest): Promise<Result | undefined> {
		const invocation = parseRequest(request);
		await this.workOffDeletions();
		const { command, config } = invocation;
		switch (command) {
			case "ADD":
				return await this.#add(config, invocation.attachment);
			case "DEL":
				await this.#pods.delete(invocation.attachment);
				return undefined;
			case "CHECK":
				await this.#check(config, invocation.attachment);
				return undefined;
			case "STATUS":
				await this.#pods.checkRoom(ErrorCode.NOT_AVAILABLE, this.#node(ErrorCode.NOT_AVAILABLE));
				return undefined;
			case "GC":
				await this.#collectGarbage(config.name, config.validAttachments ?? []);
				return undefined;
		}
	}

	async #add(config: NetworkConfiguration, attachment: Attachment): Promise<Result> {
		const node = this.#node(ErrorCode.TRY_AGAIN_LATER);
		await checkNamespace(attachment.netns);
		const wish = config.wantsBandwidthLimit ? { wantsBandwidthLimit: true as const } : {};
		const endpoint = await this.#pods.add({ ...attachment, ...wish }, node);
		if (config.wantsBandwidthLimit) this.#options.onUnlimited?.(endpoint);
		// The Node's MTU may have changed meanwhile, before this endpoint was known.
		if (this.#options.self()?.podMTU !== endpoint.mtu) await this.updateMTU();
		return addResult(this.#pods.get(endpoint) ?? endpoint, node.gatewayMac, config);
	}

	async #check({ prevResult }: NetworkConfiguration, attachment: Attachment): Promise<void> {
		const endpoint = this.#pods.get(attachment);
		if (endpoint === undefined) {
			throw new CniError(
				ErrorCode.UNKNOWN_CONTAINER,
				`Cannot check ${describe(attachment)}: no such attachment`,
			);
		}
		const problems: string[] = [];
		if (endpoint.netns !== attachment.netns)
			problems.push(`It is attached in ${endpoint.netns}, not in ${attachment.netns}.`);
		const listed = prevResult?.ips?.map(({ address }) => `${address}`.replace(/\/\d+$/, "")) ?? [];
		for (const address of endpoint.addresses)
			if (!listed.includes(address)) problems.push(`prevResult lacks its address ${address}.`);
		if (!prevResult?.interfaces?.some(({ name }) => name === endpoint.ifName))
			problems.push(`prevResult lacks its interface ${endpoint.ifName}.`);
		const defaultRoutes = prevResult?.routes?.map(({ dst }) => `${dst}`) ?? [];
		const { gatewayMac } = this.#node(ErrorCode.TRY_AGAIN_LATER);
		problems.push(...(await inspect(this.#options.ip, endpoint, gatewayMac, { defaultRoutes })));
		try {
			await this.#options.onEndpointsChanged(this.endpoints(), endpoint);
		} catch (error) {
			problems.push(`The data path is not attached: ${(error as Error).message}`);
		}
		if (problems.length === 0) return;
		throw new CniError(
			ErrorCode.CHECK_FAILED,
			`Cannot confirm ${describe(endpoint)}: ${problems[0]}`,
			problems.join("\n"),
		);
	}

	async #workOff({ remove, at }: Note): Promise<void> {
		if ("valid" in remove) await this.#collectGarbage(remove.network, remove.valid, at);
		else await this.#pods.delete(remove, at);
	}

	async #collectGarbage(
		network: string,
		validAttachments: readonly { containerId: string; ifName: string }[],
		calledMs?: number,
	): Promise<void> {
		const valid = new Set(validAttachments.map((a) => endpointKey({ network, ...a })));
		const failures = await this.#pods.deleteOthers(network, valid, calledMs);
		if (failures.length === 0) return;
		throw new CniError(
			ErrorCode.KERNEL_REFUSED,
			`Cannot remove all stale attachments: ${failures.length} failed`,
			failures.join("\n"),
		);
	}

	#node(code: ErrorCode): NodeView {
		const node = this.#options.self();
		if (node !== undefined) return node;
		throw new CniError(code, "Cannot attach Pods: the Node is not ready");
	}
}

/** Most Pods that are named: tenants set annotations. */
const NAMED = 5;

function unlimited(endpoints: readonly Endpoint[]): string {
	const named = endpoints.slice(0, NAMED).map(describe).join(", ");
	const more = endpoints.length > NAMED ? ` and ${endpoints.length - NAMED} more` : "";
	const annotations = "kubernetes.io/ingress-bandwidth, kubernetes.io/egress-bandwidth";
	return `Bandwidth limits (${annotations}) are not applied to ${named}${more}.`;
}
