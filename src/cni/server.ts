/**
 * The agent's side of the CNI plugin: attaches Pods to this Node and detaches them.
 *
 * ADD
 *  1 addresses: reserved in memory, so that ADDs at the same time get different ones
 *  2 the veth with the host's side
 *  3 at once: the Pod's side; the record on disk; the data path (onEndpointsChanged)
 *  4 the answer, or after any failure the removal of all of it
 * DEL
 *  1 the veth   2 the record   3 the data path   4 the addresses are free again
 */
import type { IpRoute } from "../reconcile/iproute.js";
import { forgetDeletion, notedDeletions } from "./deletions.js";
import {
	type Endpoint,
	type EndpointId,
	endpointKey,
	hostInterfaceNames,
	podMac,
} from "./endpoint.js";
import { CniError, ErrorCode, errorObject } from "./errors.js";
import { inspect } from "./inspection.js";
import { KeyedLock } from "./lock.js";
import { changeMTU } from "./mtu.js";
import {
	attachHost,
	attachPod,
	checkNamespace,
	detach,
	isAttached,
	ownInterfaces,
} from "./plumbing.js";
import { AddressPool, type PodNetwork } from "./pool.js";
import type { CniRequest, CniResponse } from "./protocol.js";
import {
	type Attachment,
	answerVersion,
	type NetworkConfiguration,
	parseRequest,
} from "./request.js";
import { addResult, defaultPrefix, type Result } from "./result.js";
import { EndpointStore } from "./store.js";

/** What the server has to know of this Node; the agent's SelfView has all of it. */
export interface NodeView {
	podCIDRs: readonly string[];
	/** The gateway address of each pod CIDR, in the same order. */
	gateways: readonly string[];
	/** Of every veth's host side. */
	gatewayMac: string;
	podMTU: number;
}

export interface CniServerOptions {
	/** Endpoints are kept in RUN_DIR/endpoints. */
	runDir: string;
	/** Of the network namespace that this process is in. */
	ip: IpRoute;
	log: {
		info(facts: object, message: string): void;
		warn(facts: object, message: string): void;
	};
	/** undefined: this Node is not yet known; ADD then asks the runtime to try again later. */
	self: () => NodeView | undefined;
	/**
	 * Called with the new list after each change. The promise resolves when the data path of every
	 * endpoint in it is attached; ADD answers after that. A rejection undoes an ADD; after a DEL it
	 * is logged.
	 */
	onEndpointsChanged: (endpoints: Endpoint[]) => Promise<void>;
}

export class CniServer {
	readonly #options: CniServerOptions;
	readonly #store: EndpointStore;
	/** By endpointKey, in the order of attaching. */
	readonly #endpoints = new Map<string, Endpoint>();
	readonly #pool = new AddressPool();
	readonly #lock = new KeyedLock();
	readonly #unreadable: string[];

	/** Reads RUN_DIR/endpoints, blocking, so that endpoints() is complete at once. */
	constructor(options: CniServerOptions) {
		this.#options = options;
		this.#store = new EndpointStore(options.runDir);
		const { endpoints, unreadable } = this.#store.load();
		for (const endpoint of endpoints) {
			this.#endpoints.set(endpointKey(endpoint), endpoint);
			this.#pool.adopt(endpoint.addresses);
		}
		this.#unreadable = unreadable;
	}

	/** Every attached endpoint, in the order of attaching. */
	endpoints(): Endpoint[] {
		return [...this.#endpoints.values()];
	}

	/** Never rejects: what fails is a CNI error object in the answer. */
	async handle(request: CniRequest): Promise<CniResponse> {
		try {
			const body = await this.#dispatch(request);
			return body === undefined ? { status: 0 } : { status: 0, body };
		} catch (error) {
			const body = errorObject(error, answerVersion(request.config));
			const { command, containerId, ifName } = request;
			const facts = { command, containerId, ifName, code: body.code, details: body.details };
			this.#options.log.warn(facts, body.msg);
			return { status: 1, body };
		}
	}

	/**
	 * Works off the DELs that the plugin noted while no agent ran. To be called once the socket
	 * listens; every call of the plugin does it, too.
	 */
	workOffDeletions(): Promise<void> {
		// One at a time: a note that is read must be gone before anybody attaches the same key anew.
		return this.#lock.run("deletions", async () => {
			for (const id of await notedDeletions(this.#options.runDir)) {
				try {
					await this.#delete(id);
					await forgetDeletion(this.#options.runDir, id);
				} catch (error) {
					// Tried again at the next call.
					this.#options.log.warn({ ...id }, (error as Error).message);
				}
			}
		});
	}

	/**
	 * Brings every Pod to the Node's current podMTU, without losing a packet. What fails is logged,
	 * and tried again by the next call.
	 */
	updateMTU(): Promise<void> {
		return this.#lock.run("mtu", async () => {
			const mtu = this.#options.self()?.podMTU;
			const stale = this.endpoints().filter((e) => e.mtu !== mtu);
			if (mtu === undefined || stale.length === 0) return;
			const failed = new Set<string>();
			try {
				for (const { endpoint, message } of await changeMTU(this.#options.ip, stale, mtu)) {
					failed.add(endpointKey(endpoint));
					const facts = { mtu, hostInterface: endpoint.hostInterface };
					this.#options.log.warn(
						facts,
						`Cannot change the MTU of ${describe(endpoint)}: ${message}`,
					);
				}
				for (const endpoint of stale)
					if (!failed.has(endpointKey(endpoint))) await this.#recordMTU(endpoint, mtu);
			} catch (error) {
				this.#options.log.warn({ mtu }, (error as Error).message);
				return;
			}
			this.#options.log.info({ mtu, pods: stale.length - failed.size }, "changed the Pods' MTU");
		});
	}

	async #recordMTU(endpoint: EndpointId, mtu: number): Promise<void> {
		const key = endpointKey(endpoint);
		await this.#lock.run(key, async () => {
			const current = this.#endpoints.get(key);
			if (current === undefined) return;
			const changed = { ...current, mtu };
			this.#endpoints.set(key, changed);
			await this.#store.write(changed);
		});
	}

	/** Sentences for `fairway status`. */
	problems(): string[] {
		const problems = this.#unreadable.map((path) => `The endpoint record ${path} is unreadable.`);
		const node = this.#options.self();
		for (const endpoint of this.endpoints()) {
			const { hostInterface, addresses, netns } = endpoint;
			const pod = `${describe(endpoint)} (${addresses.join(", ")})`;
			if (!isAttached(hostInterface))
				problems.push(`${pod} has no interface any more: its namespace ${netns} has vanished.`);
			if (node !== undefined && !this.#pool.isWithin(addresses, podNetworks(node)))
				problems.push(`${pod} has an address outside of this Node's pod CIDRs.`);
		}
		return problems;
	}

	async #dispatch(request: CniRequest): Promise<Result | undefined> {
		const invocation = parseRequest(request);
		await this.workOffDeletions();
		const { command, config } = invocation;
		switch (command) {
			case "ADD":
				return await this.#add(config, invocation.attachment);
			case "DEL":
				await this.#delete(invocation.attachment);
				return undefined;
			case "CHECK":
				await this.#check(config, invocation.attachment);
				return undefined;
			case "STATUS":
				await this.#status();
				return undefined;
			case "GC":
				await this.#collectGarbage(config);
				return undefined;
		}
	}

	/* ------------------------------------------------------ ADD */

	async #add(config: NetworkConfiguration, attachment: Attachment): Promise<Result> {
		const node = this.#node();
		await checkNamespace(attachment.netns);
		return await this.#lock.run(endpointKey(attachment), async () => {
			const known = this.#endpoints.get(endpointKey(attachment));
			if (known !== undefined && (await this.#isIntact(known, attachment, node)))
				return addResult(known, node.gatewayMac, config);
			const endpoint = await this.#prepare(attachment, node, known);
			try {
				await this.#attach(endpoint, node);
			} catch (error) {
				await this.#remove(endpoint);
				throw error;
			}
			const { addresses, hostInterface, mtu } = endpoint;
			this.#options.log.info({ addresses, hostInterface, mtu }, `attached ${describe(endpoint)}`);
			return addResult(endpoint, node.gatewayMac, config);
		});
	}

	async #isIntact(known: Endpoint, { netns }: Attachment, node: NodeView): Promise<boolean> {
		if (known.netns !== netns) return false;
		const defaultRoutes = known.addresses.map(defaultPrefix);
		const problems = await inspect(this.#options.ip, known, node.gatewayMac, { defaultRoutes });
		return problems.length === 0;
	}

	/** @param known an endpoint with the same key that lost its interface: keeps its addresses */
	async #prepare(a: Attachment, node: NodeView, known?: Endpoint): Promise<Endpoint> {
		if (known !== undefined) await detach(this.#options.ip, known.hostInterface);
		const hostInterface = known?.hostInterface ?? (await this.#freeHostInterface(a));
		const { addresses, gateways } = known ?? (await this.#reserve(node));
		const mac = podMac(a);
		const attachedAt = new Date().toISOString();
		return { ...a, addresses, gateways, mac, hostInterface, mtu: node.podMTU, attachedAt };
	}

	async #reserve(node: NodeView): Promise<{ addresses: string[]; gateways: string[] }> {
		const networks = podNetworks(node);
		const reserved = this.#pool.reserve(networks);
		if (reserved !== undefined) return reserved;
		await this.#takeBackVanished();
		const second = this.#pool.reserve(networks);
		if (second !== undefined) return second;
		throw this.#exhausted(ErrorCode.TRY_AGAIN_LATER, node);
	}

	/** Pods whose namespace went without a DEL have no use for their addresses. */
	async #takeBackVanished(): Promise<void> {
		for (const endpoint of this.endpoints()) {
			if (isAttached(endpoint.hostInterface) || this.#lock.isHeld(endpointKey(endpoint))) continue;
			this.#options.log.warn(
				{ addresses: endpoint.addresses },
				`took back the addresses of ${describe(endpoint)}: its namespace has vanished`,
			);
			await this.#delete(endpoint);
		}
	}

	async #attach(endpoint: Endpoint, node: NodeView): Promise<void> {
		const { ip } = this.#options;
		await attachHost(ip, endpoint, node.gatewayMac);
		this.#endpoints.set(endpointKey(endpoint), endpoint);
		const outcomes = await Promise.allSettled([
			attachPod(ip, endpoint, node.gatewayMac),
			this.#store.write(endpoint),
			this.#publish(),
		]);
		for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
		// The Node's MTU may have changed since; updateMTU did not see this endpoint then.
		const now = this.#options.self()?.podMTU;
		if (now !== undefined && now !== endpoint.mtu) void this.updateMTU();
	}

	/** A name that no other endpoint has. What an ADD that was cut off left behind goes first. */
	async #freeHostInterface(id: EndpointId): Promise<string> {
		const taken = new Set(this.endpoints().map(({ hostInterface }) => hostInterface));
		for (const name of hostInterfaceNames(id.containerId, id.ifName)) {
			if (taken.has(name)) continue;
			if (isAttached(name)) await this.#removeLeftovers(id);
			if (!isAttached(name)) return name;
		}
		throw new CniError(
			ErrorCode.KERNEL_REFUSED,
			`Cannot name the host's interface of ${describe(id)}: wanted a free name, all are taken`,
		);
	}

	async #removeLeftovers(id: EndpointId): Promise<void> {
		const known = new Set(this.endpoints().map(({ hostInterface }) => hostInterface));
		for (const { name, key } of await ownInterfaces(this.#options.ip))
			if (key === endpointKey(id) && !known.has(name)) await detach(this.#options.ip, name);
	}

	/* ------------------------------------------------------ DEL, GC */

	async #delete(id: EndpointId): Promise<void> {
		await this.#lock.run(endpointKey(id), async () => {
			const endpoint = this.#endpoints.get(endpointKey(id));
			if (endpoint === undefined) {
				if (hostInterfaceNames(id.containerId, id.ifName).some(isAttached))
					await this.#removeLeftovers(id);
				return;
			}
			await this.#remove(endpoint);
			this.#options.log.info({ addresses: endpoint.addresses }, `detached ${describe(endpoint)}`);
		});
	}

	/** Everything of an endpoint, however much of it there is. */
	async #remove(endpoint: Endpoint): Promise<void> {
		await detach(this.#options.ip, endpoint.hostInterface);
		await this.#store.remove(endpoint);
		this.#endpoints.delete(endpointKey(endpoint));
		try {
			await this.#publish();
		} catch (error) {
			// The reconciler tries again; nobody is there whom it could hurt.
			this.#options.log.warn({}, (error as Error).message);
		}
		this.#pool.free(endpoint.addresses);
	}

	async #collectGarbage({ name, validAttachments = [] }: NetworkConfiguration): Promise<void> {
		const valid = new Set(validAttachments.map((a) => endpointKey({ network: name, ...a })));
		const failures: string[] = [];
		for (const endpoint of this.endpoints()) {
			if (endpoint.network !== name || valid.has(endpointKey(endpoint))) continue;
			await this.#delete(endpoint).catch((error: Error) => failures.push(error.message));
		}
		for (const leftover of await ownInterfaces(this.#options.ip)) {
			const { key, name: hostInterface } = leftover;
			if (!key.startsWith(`${name}/`) || valid.has(key) || this.#endpoints.has(key)) continue;
			await detach(this.#options.ip, hostInterface).catch((error: Error) =>
				failures.push(error.message),
			);
		}
		if (failures.length === 0) return;
		throw new CniError(
			ErrorCode.KERNEL_REFUSED,
			`Cannot remove all that is stale: ${failures.length} failed`,
			failures.join("\n"),
		);
	}

	/* ------------------------------------------------------ CHECK, STATUS */

	async #check({ prevResult }: NetworkConfiguration, attachment: Attachment): Promise<void> {
		const endpoint = this.#endpoints.get(endpointKey(attachment));
		if (endpoint === undefined) {
			throw new CniError(
				ErrorCode.UNKNOWN_CONTAINER,
				`Cannot check ${describe(attachment)}: wanted an attached interface, it is unknown`,
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
		const { gatewayMac } = this.#node();
		problems.push(...(await inspect(this.#options.ip, endpoint, gatewayMac, { defaultRoutes })));
		if (problems.length === 0) return;
		throw new CniError(
			ErrorCode.CHECK_FAILED,
			`Cannot confirm ${describe(endpoint)}: wanted what ADD made, ${problems[0]}`,
			problems.join("\n"),
		);
	}

	async #status(): Promise<void> {
		const node = this.#options.self();
		if (node === undefined) throw notReady(ErrorCode.NOT_AVAILABLE);
		const networks = podNetworks(node);
		if (this.#pool.hasRoom(networks)) return;
		await this.#takeBackVanished();
		if (!this.#pool.hasRoom(networks)) throw this.#exhausted(ErrorCode.NOT_AVAILABLE, node);
	}

	/* ------------------------------------------------------ shared */

	#node(): NodeView {
		const node = this.#options.self();
		if (node === undefined) throw notReady(ErrorCode.TRY_AGAIN_LATER);
		return node;
	}

	async #publish(): Promise<void> {
		try {
			await this.#options.onEndpointsChanged(this.endpoints());
		} catch (error) {
			const is = (error as Error).message;
			throw new CniError(
				ErrorCode.DATA_PATH,
				`Cannot attach the data path: wanted all Pods, ${is}`,
			);
		}
	}

	#exhausted(code: ErrorCode, { podCIDRs }: NodeView): CniError {
		return new CniError(
			code,
			`Cannot allocate an address: wanted a free one of each family in ${podCIDRs.join(", ") || "no pod CIDR"}, all are taken`,
			`${this.#endpoints.size} interfaces are attached.`,
		);
	}
}

function podNetworks({ podCIDRs, gateways }: NodeView): PodNetwork[] {
	return podCIDRs.map((cidr, i) => ({ cidr, gateway: gateways[i] ?? "" }));
}

function describe(e: EndpointId & Pick<Endpoint, "namespace" | "name">): string {
	if (e.namespace !== undefined && e.name !== undefined) return `Pod ${e.namespace}/${e.name}`;
	return `${e.ifName} of container ${e.containerId}`;
}

function notReady(code: ErrorCode): CniError {
	return new CniError(code, "Cannot attach Pods: wanted a Node that is ready, this one is not yet");
}
