/**
 * Pods as columns: a hundred thousand of them take some 12 MB outside V8's heap, as objects they took 100 in it. A
 * record is made on request, a new object each time.
 *
 *  1. what most Pods have, each as a number in an array: key, uid, addresses, flags, and the numbers of what many
 *     share (labels, ports, Node, file)
 *  2. what few Pods have, and what is not as the API writes it, as objects beside them
 */
import { isDeepStrictEqual } from "node:util";
import { grown } from "../columns/grow.js";
import { Pool } from "../columns/pool.js";
import { Texts } from "../columns/texts.js";
import { formatAddress, isMapped, parseAddress } from "../tables/address.js";
import { intern, type Labels, NO_LABELS } from "./labels.js";
import type { NamedPort, PodObject } from "./pod_object.js";
import type { RecordTable } from "./record_table.js";

const Flag = {
	HOST_NETWORK: 1,
	ENDED: 2,
	READY: 4,
	TERMINATING: 8,
	WRITTEN_BACK: 16,
	IPV4: 32,
	IPV6: 64,
	IPV6_FIRST: 128,
	UUID: 256,
	CREATED: 512,
	/** It has something in `#rest`. */
	REST: 1024,
} as const;

/** In place of what the columns say. */
type Rest = Partial<
	Pick<PodObject, "namespace" | "name" | "uid" | "mirrorOf" | "addresses" | "limits">
>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const NO_PORTS: readonly NamedPort[] = [];
const NO_LIMITS: readonly string[] = [];

export class PodTable implements RecordTable<PodObject> {
	/** "namespace/name"; the numbers are those of all columns. */
	readonly #keys = new Texts();
	readonly #labels = new Pool<Labels>();
	readonly #ports = new Pool<readonly NamedPort[]>();
	/** Names of Nodes, and of files; "": none. */
	readonly #names = new Pool<string>();
	readonly #rest = new Map<number, Rest>();
	#flags: Uint16Array = new Uint16Array(0);
	#labelsOf: Uint32Array = new Uint32Array(0);
	#portsOf: Uint32Array = new Uint32Array(0);
	#nodeOf: Uint32Array = new Uint32Array(0);
	#fileOf: Uint32Array = new Uint32Array(0);
	/** ms since the epoch. */
	#created: Float64Array = new Float64Array(0);
	/** 16 bytes each. */
	#uids: Uint8Array = new Uint8Array(0);
	/** 4 and 16 bytes each, in network order. */
	#ipv4: Uint8Array = new Uint8Array(0);
	#ipv6: Uint8Array = new Uint8Array(0);

	get size(): number {
		return this.#keys.size;
	}

	has(key: string): boolean {
		return this.#keys.find(key) >= 0;
	}

	get(key: string): PodObject | undefined {
		const id = this.#keys.find(key);
		return id < 0 ? undefined : this.#record(id, key);
	}

	fileOf(key: string): string | undefined {
		const id = this.#keys.find(key);
		return id < 0 ? undefined : this.#fileAt(id);
	}

	put(key: string, record: PodObject, file?: string): boolean {
		const known = this.#keys.find(key);
		if (known >= 0) {
			if (this.#fileAt(known) === file && isDeepStrictEqual(this.#record(known, key), record))
				return false;
			this.#release(known);
		}
		this.#write(known >= 0 ? known : this.#keys.add(key), key, record, file);
		return true;
	}

	delete(key: string): boolean {
		const id = this.#keys.find(key);
		if (id < 0) return false;
		this.#release(id);
		this.#keys.remove(id);
		return true;
	}

	*keys(): IterableIterator<string> {
		for (const id of this.#keys.ids()) yield this.#keys.text(id);
	}

	#fileAt(id: number): string | undefined {
		const file = this.#names.at(this.#fileOf[id]!);
		return file === "" ? undefined : file;
	}

	#record(id: number, key: string): PodObject {
		const flags = this.#flags[id]!;
		const slash = key.indexOf("/");
		const pod: PodObject = {
			namespace: intern(key.slice(0, slash)),
			name: key.slice(slash + 1),
			node: this.#names.at(this.#nodeOf[id]!),
			labels: this.#labels.at(this.#labelsOf[id]!),
			addresses: this.#addresses(id, flags),
			hostNetwork: (flags & Flag.HOST_NETWORK) !== 0,
			ended: (flags & Flag.ENDED) !== 0,
			isReady: (flags & Flag.READY) !== 0,
			isTerminating: (flags & Flag.TERMINATING) !== 0,
			ports: this.#ports.at(this.#portsOf[id]!),
			limits: NO_LIMITS,
		};
		if ((flags & Flag.UUID) !== 0) pod.uid = this.#uid(id);
		if ((flags & Flag.CREATED) !== 0) pod.created = this.#created[id]!;
		if ((flags & Flag.WRITTEN_BACK) !== 0) pod.isWrittenBack = true;
		return (flags & Flag.REST) === 0 ? pod : Object.assign(pod, this.#rest.get(id));
	}

	#uid(id: number): string {
		const hex = Buffer.from(this.#uids.buffer, id * 16, 16).toString("hex");
		const part = (from: number, to?: number) => hex.slice(from, to);
		return [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20)].join("-");
	}

	#addresses(id: number, flags: number): string[] {
		const addresses: string[] = [];
		if ((flags & Flag.IPV4) !== 0)
			addresses.push(this.#ipv4.subarray(4 * id, 4 * id + 4).join("."));
		if ((flags & Flag.IPV6) !== 0) {
			const address = formatAddress(this.#ipv6, 16 * id);
			if ((flags & Flag.IPV6_FIRST) !== 0) addresses.unshift(address);
			else addresses.push(address);
		}
		return addresses;
	}

	#release(id: number): void {
		this.#labels.release(this.#labelsOf[id]!);
		this.#ports.release(this.#portsOf[id]!);
		this.#names.release(this.#nodeOf[id]!);
		this.#names.release(this.#fileOf[id]!);
		this.#rest.delete(id);
	}

	#write(id: number, key: string, pod: PodObject, file = ""): void {
		const { namespace, name, uid, created, mirrorOf, node, labels, ports, limits } = pod;
		this.#grow(id + 1);
		const rest: Rest = {};
		if (key !== `${namespace}/${name}`) Object.assign(rest, { namespace, name });
		if (mirrorOf !== undefined) rest.mirrorOf = mirrorOf;
		if (limits.length > 0) rest.limits = limits;
		let flags =
			(pod.hostNetwork ? Flag.HOST_NETWORK : 0) |
			(pod.ended ? Flag.ENDED : 0) |
			(pod.isReady ? Flag.READY : 0) |
			(pod.isTerminating ? Flag.TERMINATING : 0) |
			(pod.isWrittenBack ? Flag.WRITTEN_BACK : 0) |
			(created === undefined ? 0 : Flag.CREATED);
		if (created !== undefined) this.#created[id] = created;
		if (uid !== undefined && UUID.test(uid)) {
			flags |= Flag.UUID;
			Buffer.from(this.#uids.buffer).write(uid.replaceAll("-", ""), 16 * id, "hex");
		} else if (uid !== undefined) rest.uid = uid;
		const written = this.#writeAddresses(id, pod.addresses);
		if (written === undefined) rest.addresses = pod.addresses;
		else flags |= written;
		if (Object.keys(rest).length > 0) {
			flags |= Flag.REST;
			this.#rest.set(id, rest);
		}
		this.#flags[id] = flags;
		this.#labelsOf[id] = this.#labels.take(labels.length === 0 ? "" : JSON.stringify(labels), () =>
			labels.length === 0 ? NO_LABELS : labels.map(intern),
		);
		const text = ports.length === 0 ? "" : JSON.stringify(ports);
		this.#portsOf[id] = this.#ports.take(text, () => (ports.length === 0 ? NO_PORTS : ports));
		this.#nodeOf[id] = this.#names.take(node, () => node);
		this.#fileOf[id] = this.#names.take(file, () => file);
	}

	/** Flags; undefined: the columns have no room for them as they are. */
	#writeAddresses(id: number, addresses: readonly string[]): number | undefined {
		let flags = 0;
		for (const address of addresses) {
			const bytes = parseAddress(address);
			if (bytes === undefined || formatAddress(bytes) !== address) return undefined;
			const isIPv4 = isMapped(bytes);
			const flag = isIPv4 ? Flag.IPV4 : Flag.IPV6;
			if ((flags & flag) !== 0) return undefined;
			if (!isIPv4 && flags === 0) flags |= Flag.IPV6_FIRST;
			flags |= flag;
			if (isIPv4) this.#ipv4.set(bytes.subarray(12), 4 * id);
			else {
				this.#ipv6 = grown(this.#ipv6, 16 * (id + 1));
				this.#ipv6.set(bytes, 16 * id);
			}
		}
		return flags;
	}

	#grow(length: number): void {
		this.#flags = grown(this.#flags, length);
		this.#labelsOf = grown(this.#labelsOf, length);
		this.#portsOf = grown(this.#portsOf, length);
		this.#nodeOf = grown(this.#nodeOf, length);
		this.#fileOf = grown(this.#fileOf, length);
		this.#created = grown(this.#created, length);
		this.#uids = grown(this.#uids, 16 * length);
		this.#ipv4 = grown(this.#ipv4, 4 * length);
	}
}
