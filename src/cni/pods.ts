/**
 * The Pods attached to this Node: their interfaces, addresses and records.
 *
 * Attaching
 *  1 addresses: reserved in memory, so that concurrent ADDs get different ones; then a few Pods at a time (slots.ts)
 *  2 the veth with its host side
 *  3 in parallel: the record on disk; the data path with the Pod's policies (onChange)
 *  4 the Pod's side: from here on it can send
 *  5 after any failure: removes everything
 * Detaching
 *  1 the veth   2 the record   3 the data path   4 frees the addresses
 */
import type { IpRoute } from "../linux/iproute.js";
import type { Log } from "../text/log.js";
import { monotonicMs } from "./deletions.js";
import {
	describe,
	type Endpoint,
	type EndpointId,
	endpointKey,
	hostInterfaceNames,
	podMac,
} from "./endpoint.js";
import { CniError, ErrorCode } from "./errors.js";
import { inspect } from "./inspection.js";
import { KeyedLock } from "./lock.js";
import { changeMTU } from "./mtu.js";
import { attachHost, attachPod, detach, isAttached, ownInterfaces } from "./plumbing.js";
import { AddressPool, type PodNetwork } from "./pool.js";
import { EndpointRecords, facts } from "./records.js";
import type { Attachment } from "./request.js";
import { defaultPrefix } from "./result.js";
import { Slots } from "./slots.js";

/** The properties of this Node that are needed here; the agent's SelfView has them. */
export interface NodeView {
	podCIDRs: readonly string[];
	/** The gateway address of each pod CIDR, in the same order. */
	gateways: readonly string[];
	/** MAC of the host side of every veth. */
	gatewayMac: string;
	podMTU: number;
}

/**
 * More at a time would all finish later; fewer would not share an apply. A Pod that waits for policies holds no slot.
 */
const AT_ONCE = { most: 6, holdMs: 100 };

/** The input of a new endpoint. */
export type NewEndpoint = Attachment & Pick<Endpoint, "wantsBandwidthLimit">;

export interface AttachmentsOptions {
	/** Records are kept in RUN_DIR/endpoints. */
	runDir: string;
	/** iproute2 in the network namespace of this process. */
	ip: IpRoute;
	log: Pick<Log, "info" | "warn">;
	/**
	 * Called with the new list after each change, and with the endpoint that is being attached, if any.
	 * Resolves when the data path is attached; a rejection undoes an ADD.
	 */
	onChange: (endpoints: Endpoint[], added?: Endpoint) => Promise<void>;
}

export class Pods {
	readonly #options: AttachmentsOptions;
	readonly #records: EndpointRecords;
	readonly #pool = new AddressPool();
	readonly #lock = new KeyedLock();
	/** Limits how many Pods are attached at once. */
	readonly #slots = new Slots(AT_ONCE.most, AT_ONCE.holdMs);

	/** Reads the records, blocking, so that list() is complete immediately. */
	constructor(options: AttachmentsOptions) {
		this.#options = options;
		this.#records = new EndpointRecords(options);
		for (const { addresses } of this.#records.list()) this.#pool.adopt(addresses);
	}

	list(): Endpoint[] {
		return this.#records.list();
	}

	get(id: EndpointId): Endpoint | undefined {
		return this.#records.get(id);
	}

	/** Paths of records that could neither be read nor be made anew. */
	get unreadable(): readonly string[] {
		return this.#records.unreadable;
	}

	/* ------------------------------------------------------ attaching */

	/**
	 * Attaches an endpoint. An intact attachment stays as it is; a damaged one is rebuilt with the same
	 * addresses.
	 *
	 * @throws CniError, after removing everything
	 */
	add(attachment: NewEndpoint, node: NodeView): Promise<Endpoint> {
		return this.#lock.run(endpointKey(attachment), async () => {
			const known = this.get(attachment);
			if (known !== undefined && (await this.#isIntact(known, attachment, node))) {
				const renewed = await this.#renew(known, attachment);
				// An earlier call may have ended before its data path was complete.
				await this.#publish(renewed);
				return renewed;
			}
			const endpoint = await this.#prepare(attachment, node, known);
			try {
				await this.#slots.run(() => this.#attach(endpoint, node));
			} catch (error) {
				await this.#undo(endpoint);
				throw error;
			}
			this.#options.log.info({ ...facts(endpoint), mtu: endpoint.mtu }, "attached Pod");
			return endpoint;
		});
	}

	/** An endpoint that cannot be removed stays known: the DEL that follows a failed ADD tries again. */
	async #undo(endpoint: Endpoint): Promise<void> {
		try {
			await this.#remove(endpoint);
		} catch (error) {
			if (isAttached(endpoint.hostInterface)) this.#records.put(endpoint);
			this.#options.log.warn({ ...facts(endpoint), err: error }, "cannot undo an ADD");
		}
	}

	/** Renews the time of attachment, so that noted DELs of earlier calls no longer apply. */
	async #renew(known: Endpoint, { namespace, name, uid }: NewEndpoint): Promise<Endpoint> {
		const renewed = {
			...(this.get(known) ?? known),
			...(namespace === undefined ? {} : { namespace }),
			...(name === undefined ? {} : { name }),
			...(uid === undefined ? {} : { uid }),
			attachedMs: monotonicMs(),
		};
		this.#records.put(renewed);
		await this.#records.save(renewed);
		return renewed;
	}

	async #isIntact(known: Endpoint, { netns }: Attachment, node: NodeView): Promise<boolean> {
		if (known.netns !== netns) return false;
		const defaultRoutes = known.addresses.map(defaultPrefix);
		const problems = await inspect(this.#options.ip, known, node.gatewayMac, { defaultRoutes });
		return problems.length === 0;
	}

	async #prepare(a: NewEndpoint, node: NodeView, known?: Endpoint): Promise<Endpoint> {
		if (known !== undefined) await detach(known.hostInterface);
		const hostInterface = known?.hostInterface ?? (await this.#freeHostInterface(a));
		const { addresses, gateways } = known ?? (await this.#reserve(node));
		const mac = podMac(a);
		const attachedAt = new Date().toISOString();
		const attachedMs = monotonicMs();
		return {
			...a,
			addresses,
			gateways,
			mac,
			hostInterface,
			mtu: node.podMTU,
			attachedAt,
			attachedMs,
		};
	}

	async #reserve(node: NodeView): Promise<{ addresses: string[]; gateways: string[] }> {
		const reserve = () => this.#pool.reserve(podNetworks(node));
		const reserved = reserve();
		if (reserved !== undefined) return reserved;
		await this.#takeBackVanished();
		const second = reserve();
		if (second !== undefined) return second;
		throw this.#exhausted(ErrorCode.TRY_AGAIN_LATER, node);
	}

	/** An unused interface name. Removes what an interrupted ADD has left behind. */
	async #freeHostInterface(id: EndpointId): Promise<string> {
		const taken = new Set(this.list().map(({ hostInterface }) => hostInterface));
		for (const name of hostInterfaceNames(id.containerId, id.ifName)) {
			if (taken.has(name)) continue;
			if (isAttached(name)) await this.#removeLeftovers((key) => key === endpointKey(id));
			if (!isAttached(name)) return name;
		}
		throw new CniError(
			ErrorCode.KERNEL_REFUSED,
			`Cannot name the host's interface of ${describe(id)}: all names are taken`,
		);
	}

	async #attach(endpoint: Endpoint, node: NodeView): Promise<void> {
		await attachHost(endpoint, node.gatewayMac);
		this.#records.put(endpoint);
		const outcomes = await Promise.allSettled([
			this.#records.save(endpoint),
			this.#publish(endpoint),
		]);
		for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
		// Last: without the data path the Node's own stack would forward the Pod's packets, past its policies.
		await attachPod(endpoint, node.gatewayMac);
	}

	/* ------------------------------------------------------ detaching */

	/**
	 * Detaches an endpoint. For an unknown one, removes an interface that an interrupted ADD may have left.
	 *
	 * @param calledMs when the call began, see monotonicMs: later attachments are kept
	 */
	delete(id: EndpointId, calledMs = Number.POSITIVE_INFINITY): Promise<void> {
		return this.#lock.run(endpointKey(id), async () => {
			const endpoint = this.get(id);
			if (endpoint !== undefined && isNewer(endpoint, calledMs)) return;
			if (endpoint === undefined) {
				const names = hostInterfaceNames(id.containerId, id.ifName);
				if (names.some(isAttached)) await this.#removeLeftovers((key) => key === endpointKey(id));
				// Left by a DEL that failed half-way; a restart would load it again.
				await this.#records.removeStray(id, names);
				return;
			}
			await this.#remove(endpoint);
			this.#options.log.info(facts(endpoint), "detached Pod");
		});
	}

	/**
	 * Removes all attachments of a network except these.
	 *
	 * @returns failures; the other attachments are removed
	 */
	async deleteOthers(
		network: string,
		keep: ReadonlySet<string>,
		calledMs = Number.POSITIVE_INFINITY,
	): Promise<string[]> {
		const failures: string[] = [];
		const note = (error: Error) => void failures.push(error.message);
		for (const endpoint of this.list()) {
			if (endpoint.network === network && !keep.has(endpointKey(endpoint)))
				await this.delete(endpoint, calledMs).catch(note);
		}
		await this.#removeLeftovers(
			(key) => key.startsWith(`${network}/`) && !keep.has(key) && !this.#lock.isHeld(key),
		).catch(note);
		return failures;
	}

	/**
	 * Removes whatever exists of an endpoint. It counts as removed once its interface is gone: a record that cannot be
	 * removed is reported, but its data path and addresses are released.
	 */
	async #remove(endpoint: Endpoint): Promise<void> {
		await detach(endpoint.hostInterface);
		this.#records.drop(endpoint);
		try {
			await this.#records.save(endpoint);
		} finally {
			try {
				await this.#publish();
			} catch (error) {
				// The reconciler retries; the Pod no longer exists, so no traffic is affected.
				this.#options.log.warn(
					{ ...facts(endpoint), err: error },
					"cannot update the data path, will retry",
				);
			}
			this.#pool.free(endpoint.addresses);
		}
	}

	/** Removes interfaces with Fairway's alias but without a record. */
	async #removeLeftovers(isStale: (key: string) => boolean): Promise<void> {
		const known = new Set(this.list().map(({ hostInterface }) => hostInterface));
		for (const { name, key } of await ownInterfaces())
			if (!known.has(name) && isStale(key)) await detach(name);
	}

	/* ------------------------------------------------------ addresses */

	/** @throws CniError with this code if no address is left */
	async checkRoom(code: ErrorCode, node: NodeView): Promise<void> {
		const networks = podNetworks(node);
		if (this.#pool.hasRoom(networks)) return;
		await this.#takeBackVanished();
		if (!this.#pool.hasRoom(networks)) throw this.#exhausted(code, node);
	}

	isWithin(endpoint: Endpoint, node: NodeView): boolean {
		return this.#pool.isWithin(endpoint.addresses, podNetworks(node));
	}

	/** Reclaims the addresses of Pods whose namespace is gone without a DEL. */
	async #takeBackVanished(): Promise<void> {
		for (const endpoint of this.list()) {
			if (isAttached(endpoint.hostInterface) || this.#lock.isHeld(endpointKey(endpoint))) continue;
			this.#options.log.warn(facts(endpoint), "reclaimed addresses: network namespace is gone");
			await this.delete(endpoint);
		}
	}

	#exhausted(code: ErrorCode, { podCIDRs }: NodeView): CniError {
		return new CniError(
			code,
			`Cannot allocate an address: no address of each family is free in ${podCIDRs.join(", ") || "no pod CIDR"}`,
			`${this.list().length} interfaces are attached.`,
		);
	}

	/* ------------------------------------------------------ MTU */

	/**
	 * Sets the MTU of every Pod. Failures are logged and retried by the next call. Does not wait for ADD or
	 * DEL: those wait for the data path, whose owner may be the caller.
	 */
	async updateMTU(mtu: number): Promise<void> {
		const stale = this.list().filter((e) => e.mtu !== mtu);
		if (stale.length === 0) return;
		const failures = await changeMTU(this.#options.ip, stale, mtu);
		for (const { endpoint, message } of failures) {
			this.#options.log.warn({ ...facts(endpoint), mtu, err: message }, "cannot change Pod MTU");
		}
		const failed = new Set(failures.map(({ endpoint }) => endpointKey(endpoint)));
		const changed = stale.filter((e) => !failed.has(endpointKey(e)));
		for (const endpoint of changed) {
			// Skip endpoints that were detached, or attached again, in the meantime.
			if (this.get(endpoint) !== endpoint) continue;
			this.#records.put({ ...endpoint, mtu });
			await this.#records.save(endpoint);
		}
		this.#options.log.info({ mtu, pods: changed.length }, "changed Pod MTU");
	}

	/* ------------------------------------------------------ data path */

	async #publish(added?: Endpoint): Promise<void> {
		try {
			await this.#options.onChange(this.list(), added);
		} catch (error) {
			if (error instanceof CniError) throw error;
			const is = (error as Error).message;
			throw new CniError(ErrorCode.DATA_PATH, `Cannot attach the data path: ${is}`);
		}
	}
}

/**
 * True if it was attached after that call. The time of an earlier boot is of another clock, so the interface must
 * exist.
 */
function isNewer({ attachedMs = 0, hostInterface }: Endpoint, calledMs: number): boolean {
	return attachedMs > calledMs && isAttached(hostInterface);
}

function podNetworks({ podCIDRs, gateways }: NodeView): PodNetwork[] {
	return podCIDRs.map((cidr, i) => ({ cidr, gateway: gateways[i] ?? "" }));
}
