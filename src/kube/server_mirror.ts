/**
 * Learns the API servers' own addresses from the EndpointSlices of the Service `default/kubernetes`,
 * as they pass on their way to the mirror of all EndpointSlices.
 */
import { SERVICE_NAME_LABEL } from "../cluster/endpoint_slice_object.js";
import { mapping } from "../cluster/fields.js";
import { formatAddress, parseAddress } from "../tables/address.js";
import { serverAt } from "./api_client.js";
import type { Mirror } from "./mirror.js";

export class ServerMirror implements Mirror {
	readonly #all: Mirror;
	readonly #onServers: (servers: string[]) => void;
	#slices = new Map<string, readonly string[]>();
	#list = new Map<string, readonly string[]>();

	/** @param all the mirror of all EndpointSlices */
	constructor(all: Mirror, onServers: (servers: string[]) => void) {
		this.#all = all;
		this.#onServers = onServers;
	}

	begin(): void {
		this.#list = new Map();
		this.#all.begin();
	}

	list(object: unknown): void {
		const name = sliceOfServers(object);
		if (name !== undefined) this.#list.set(name, serversOf(object));
		this.#all.list(object);
	}

	unlist(object: unknown): void {
		const name = sliceOfServers(object);
		if (name !== undefined) this.#list.delete(name);
		this.#all.unlist(object);
	}

	async end(): Promise<void> {
		this.#slices = this.#list;
		this.#tell();
		await this.#all.end();
	}

	change(object: unknown): void {
		const name = sliceOfServers(object);
		if (name !== undefined) {
			this.#slices.set(name, serversOf(object));
			this.#tell();
		}
		this.#all.change(object);
	}

	remove(object: unknown): void {
		const name = sliceOfServers(object);
		if (name !== undefined) {
			this.#slices.delete(name);
			this.#tell();
		}
		this.#all.remove(object);
	}

	#tell(): void {
		this.#onServers([...new Set([...this.#slices.values()].flat())]);
	}
}

/** The slice's name; undefined: it belongs to another Service. */
function sliceOfServers(object: unknown): string | undefined {
	const { namespace, name, labels } = mapping(mapping(object).metadata);
	if (namespace !== "default" || mapping(labels)[SERVICE_NAME_LABEL] !== "kubernetes")
		return undefined;
	return String(name);
}

/** Skips what cannot be parsed: these addresses are optional. */
function serversOf(object: unknown): string[] {
	const { endpoints, ports } = mapping(object);
	const https = list(ports).find(({ name, port }) => name === "https" && isPort(port));
	if (https === undefined) return [];
	return list(endpoints).flatMap(({ addresses, conditions }) => {
		if (mapping(conditions).ready === false || !Array.isArray(addresses)) return [];
		return addresses.flatMap((address) => {
			const bytes = typeof address === "string" ? parseAddress(address) : undefined;
			return bytes === undefined ? [] : [serverAt(formatAddress(bytes), https.port as number)];
		});
	});
}

function list(value: unknown): Record<string, unknown>[] {
	return Array.isArray(value) ? value.map(mapping) : [];
}

function isPort(port: unknown): boolean {
	return typeof port === "number" && Number.isInteger(port) && port > 0 && port < 65536;
}
