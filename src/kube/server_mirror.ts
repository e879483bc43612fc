/** The API servers' own addresses, as the EndpointSlices of the Service `default/kubernetes` have them. */
import { mapping } from "../cluster/fields.js";
import { formatAddress, parseAddress } from "../tables/address.js";
import { serverAt } from "./api_client.js";
import type { Mirror } from "./mirror.js";

export const SERVER_SLICES = {
	kind: "EndpointSlice",
	path: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
	selectors: { labelSelector: "kubernetes.io/service-name=kubernetes" },
	optional: true,
} as const;

export class ServerMirror implements Mirror {
	readonly #onServers: (servers: string[]) => void;
	#slices = new Map<string, readonly string[]>();
	#list = new Map<string, readonly string[]>();

	constructor(onServers: (servers: string[]) => void) {
		this.#onServers = onServers;
	}

	begin(): void {
		this.#list = new Map();
	}

	list(object: unknown): void {
		this.#list.set(nameOf(object), serversOf(object));
	}

	unlist(object: unknown): void {
		this.#list.delete(nameOf(object));
	}

	async end(): Promise<void> {
		this.#slices = this.#list;
		this.#tell();
	}

	change(object: unknown): void {
		this.#slices.set(nameOf(object), serversOf(object));
		this.#tell();
	}

	remove(object: unknown): void {
		this.#slices.delete(nameOf(object));
		this.#tell();
	}

	#tell(): void {
		this.#onServers([...new Set([...this.#slices.values()].flat())]);
	}
}

function nameOf(object: unknown): string {
	return String(mapping(mapping(object).metadata).name);
}

/** What cannot be understood is left out: these addresses are a help, no duty. */
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
