/** Services in force and their endpoints by state, at the cost of what has changed since they were counted. */
import type { Steps } from "../loop/turns.js";

export interface CountedService {
	ports: readonly {
		backends: readonly {
			isReady: boolean;
			isServing: boolean;
			isTerminating: boolean;
		}[];
	}[];
}

export interface CountedServices {
	keys(): Iterable<string>;
	/** undefined: there is no such Service. Without ports: others serve it. */
	view(key: string): CountedService | undefined;
}

export interface ServiceCounts {
	services: number;
	/** An endpoint counts for each port and family. */
	endpoints: { ready: number; serving: number; terminating: number; unready: number };
}

type State = keyof ServiceCounts["endpoints"];

export class ServiceCounter {
	readonly #counted = new Map<string, ServiceCounts["endpoints"]>();
	readonly #changed = new Set<string>();
	readonly #total: ServiceCounts = { services: 0, endpoints: none() };
	#of: CountedServices | undefined;

	/** @param isWhole any Service may have changed */
	note(services: CountedServices, changed: Iterable<string>, isWhole: boolean): void {
		this.#of = services;
		for (const key of changed) this.#changed.add(key);
		if (!isWhole) return;
		for (const key of this.#counted.keys()) this.#changed.add(key);
		for (const key of services.keys()) this.#changed.add(key);
	}

	/** In steps: the first time all Services are counted. */
	*count(): Steps<ServiceCounts> {
		for (const key of this.#changed) {
			this.#changed.delete(key);
			const view = this.#of?.view(key);
			this.#replace(key, view === undefined || view.ports.length === 0 ? undefined : view);
			yield;
		}
		return this.#total;
	}

	#replace(key: string, view: CountedService | undefined): void {
		const before = this.#counted.get(key);
		if (before !== undefined) this.#add(before, -1);
		if (view === undefined) {
			this.#counted.delete(key);
			return;
		}
		const counts = none();
		for (const { backends } of view.ports)
			for (const backend of backends) counts[stateOf(backend)]++;
		this.#counted.set(key, counts);
		this.#add(counts, 1);
	}

	#add(counts: ServiceCounts["endpoints"], sign: 1 | -1): void {
		this.#total.services += sign;
		for (const state of Object.keys(counts) as State[])
			this.#total.endpoints[state] += sign * counts[state];
	}
}

function none(): ServiceCounts["endpoints"] {
	return { ready: 0, serving: 0, terminating: 0, unready: 0 };
}

function stateOf({
	isReady,
	isServing,
	isTerminating,
}: CountedService["ports"][number]["backends"][number]): State {
	if (isTerminating) return "terminating";
	return isReady ? "ready" : isServing ? "serving" : "unready";
}
