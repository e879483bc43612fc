/** The endpoints of this Node in memory, each with its record on disk. */
import { basename } from "node:path";
import type { IpRoute } from "../linux/iproute.js";
import { isPodInterface } from "../linux/names.js";
import type { Log } from "../text/log.js";
import { type Endpoint, type EndpointId, endpointKey } from "./endpoint.js";
import { endpointOf } from "./rebuild.js";
import { EndpointStore } from "./store.js";

export interface EndpointRecordsOptions {
	/** Records are kept in RUN_DIR/endpoints. */
	runDir: string;
	/** iproute2 in the network namespace of this process. */
	ip: IpRoute;
	log: Pick<Log, "warn">;
}

export class EndpointRecords {
	/** Paths of records that could neither be read nor be made anew. */
	readonly unreadable: readonly string[];
	readonly #store: EndpointStore;
	/** By endpointKey. */
	readonly #endpoints = new Map<string, Endpoint>();

	/** Reads the records, blocking, so that list() is complete immediately. */
	constructor(options: EndpointRecordsOptions) {
		this.#store = new EndpointStore(options.runDir);
		this.unreadable = this.#load(options);
	}

	/** A record that cannot be read is made anew from what the kernel has of its Pod. */
	#load({ ip, log }: EndpointRecordsOptions): string[] {
		const { endpoints, unreadable } = this.#store.load();
		const lost = unreadable.filter((path) => {
			const hostInterface = basename(path, ".json");
			const rebuilt = isPodInterface(hostInterface) ? endpointOf(ip, hostInterface) : undefined;
			if (rebuilt === undefined) return true;
			this.#store.writeNow(rebuilt);
			endpoints.push(rebuilt);
			log.warn({ ...facts(rebuilt), file: path }, "rebuilt an unreadable endpoint record");
			return false;
		});
		for (const endpoint of endpoints) this.put(endpoint);
		return lost;
	}

	list(): Endpoint[] {
		return [...this.#endpoints.values()];
	}

	get(id: EndpointId): Endpoint | undefined {
		return this.#endpoints.get(endpointKey(id));
	}

	/** Adds or replaces an endpoint, in memory. */
	put(endpoint: Endpoint): void {
		this.#endpoints.set(endpointKey(endpoint), endpoint);
	}

	/** Removes an endpoint, in memory. */
	drop(endpoint: Endpoint): void {
		this.#endpoints.delete(endpointKey(endpoint));
	}

	/** Brings the record on disk up to date, also if the endpoint changes meanwhile. */
	async save(endpoint: Endpoint): Promise<void> {
		for (;;) {
			const current = this.get(endpoint);
			if (current === undefined) await this.#store.remove(endpoint);
			else await this.#store.write(current);
			if (this.get(endpoint) === current) return;
		}
	}

	/** Removes the record that a failed DEL left of an unknown endpoint, under one of these names. */
	removeStray(id: EndpointId, hostInterfaces: readonly string[]): Promise<void> {
		return this.#store.removeRecordOf(id, hostInterfaces);
	}
}

/** Log fields of an endpoint. */
export function facts({
	name,
	namespace,
	containerId,
	hostInterface,
	addresses,
}: Endpoint): Record<string, unknown> {
	return { pod: name, namespace, containerId, interface: hostInterface, addresses };
}
