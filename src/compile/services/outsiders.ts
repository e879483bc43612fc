/**
 * Addresses of endpoints that are not Pods, and the Services that have them: when another Service gets such an
 * address, the endpoint is no longer used.
 */
import { NO_TEXTS } from "../../cluster/shared.js";

export class Outsiders<Service extends object> {
	/** By address. Nearly always one: a Set costs 200 bytes. */
	readonly #users = new Map<string, Service | Set<Service>>();
	/** Addresses by Service, for Services with such endpoints. */
	readonly #addresses = new Map<Service, readonly string[]>();

	/** Replaces a Service's addresses. */
	set(service: Service, addresses: ReadonlySet<string>): void {
		for (const address of this.#addresses.get(service) ?? NO_TEXTS) {
			const users = this.#users.get(address);
			if (users instanceof Set) users.delete(service);
			if (users === service || (users instanceof Set && users.size === 0))
				this.#users.delete(address);
		}
		for (const address of addresses) {
			const users = this.#users.get(address);
			if (users === undefined) this.#users.set(address, service);
			else if (users instanceof Set) users.add(service);
			else if (users !== service) this.#users.set(address, new Set([users, service]));
		}
		if (addresses.size > 0) this.#addresses.set(service, [...addresses]);
		else this.#addresses.delete(service);
	}

	/** Services that have an endpoint at this address. */
	at(address: string): Iterable<Service> {
		const users = this.#users.get(address);
		if (users === undefined) return [];
		return users instanceof Set ? users : [users];
	}
}
