/** Endpoints at addresses of this Node itself. */
import { takeEntries } from "../../tables/changes.js";
import { DenseMap } from "../../tables/dense_map.js";
import { BackendState } from "../../tables/generated.js";
import type { ServiceChanges } from "./ports.js";

export class OwnEndpoints {
	/** Addresses by id of backends, those that rest among them. */
	readonly #addresses = new DenseMap<string>();
	/** As in Tables. */
	readonly #states = new Map<number, bigint>();
	/** Ids. */
	readonly #own = new Set<number>();

	/** True: one of them serves. */
	get serve(): boolean {
		const serves = BigInt(BackendState.SERVES);
		for (const id of this.#own) {
			const states = this.#states.get(id >> 3) ?? 0n;
			if ((states >> BigInt((id & 7) * 8)) & serves) return true;
		}
		return false;
	}

	/** @param isNewOwn this Node may have other addresses than before */
	take(
		{ backends, backendStates }: Pick<ServiceChanges, "backends" | "backendStates">,
		isOwn: (address: string) => boolean,
		isNewOwn: boolean,
	): void {
		takeEntries(this.#states, backendStates);
		for (const id of backends.remove) {
			this.#addresses.delete(id);
			this.#own.delete(id);
		}
		const look = (id: number, address: string): void => {
			if (isOwn(address)) this.#own.add(id);
			else this.#own.delete(id);
		};
		for (const [id, { address }] of backends.put) {
			this.#addresses.set(id, address);
			look(id, address);
		}
		if (isNewOwn) for (const [id, address] of this.#addresses) look(id, address);
	}
}
