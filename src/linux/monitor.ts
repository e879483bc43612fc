/**
 * Follows the kernel's links, addresses, routes and neighbours through `ip monitor`.
 *
 * A message says only what kind of object has changed; listeners read the state again. The process can die
 * or lose messages (a full socket buffer); then everything counts as changed.
 */
import type { ChildProcess } from "node:child_process";
import type { Log } from "../text/log.js";
import type { IpRoute } from "./iproute.js";
import {
	failedNeighbours,
	type Neighbour,
	type NetworkEvents,
	NetworkMessages,
} from "./network_messages.js";

export type { Neighbour, NetworkEvents } from "./network_messages.js";

const RESTART_MS = { first: 100, most: 10_000 };

export class NetworkMonitor {
	readonly #ip: IpRoute;
	readonly #log: Log;
	readonly #listeners = new Set<(events: NetworkEvents) => void>();
	readonly #onFailed = new Set<(neighbour: Neighbour) => void>();
	#messages = new NetworkMessages();
	#child: ChildProcess | undefined;
	#restart: NodeJS.Timeout | undefined;
	#backoff = RESTART_MS.first;
	#closed = false;

	constructor(ip: IpRoute, log: Log) {
		this.#ip = ip;
		this.#log = log;
		this.#start();
	}

	/** Events arrive in batches, as the kernel sends them, without debouncing. */
	listen(onEvents: (events: NetworkEvents) => void): { close(): void } {
		this.#listeners.add(onEvents);
		return { close: () => this.#listeners.delete(onEvents) };
	}

	/**
	 * Calls back `settleMs` after the first change of links, addresses or routes other than Fairway's, once for all
	 * changes until then.
	 */
	watchNetwork(onChange: () => void, settleMs: number): { close(): void } {
		let timer: NodeJS.Timeout | undefined;
		const listener = this.listen(({ network }) => {
			if (!network) return;
			timer ??= setTimeout(() => {
				timer = undefined;
				onChange();
			}, settleMs);
		});
		return {
			close: () => {
				clearTimeout(timer);
				listener.close();
			},
		};
	}

	/** Calls back for each neighbour that did not answer the kernel's solicitations. */
	listenToFailed(onFailed: (neighbour: Neighbour) => void): { close(): void } {
		this.#onFailed.add(onFailed);
		return { close: () => this.#onFailed.delete(onFailed) };
	}

	/** Process id of `ip monitor`; undefined during a restart. */
	get pid(): number | undefined {
		return this.#child?.pid;
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#restart);
		this.#listeners.clear();
		this.#onFailed.clear();
		this.#child?.kill();
	}

	#start(): void {
		const objects = ["link", "address", "route", "neigh"];
		// It must not outlive an agent that is killed, because it would keep the namespace alive.
		const bound = ["setpriv", "--pdeathsig", "KILL"] as const;
		const child = this.#ip.start(...bound, "ip", "-oneline", "monitor", "label", ...objects);
		this.#child = child;
		void this.#learnNeighbours(this.#messages);
		let rest = "";
		child.stdout?.setEncoding("utf8").on("data", (text: string) => {
			this.#backoff = RESTART_MS.first;
			const lines = (rest + text).split("\n");
			rest = lines.pop() ?? "";
			this.#emit(this.#messages.read(lines));
			for (const neighbour of failedNeighbours(lines))
				for (const onFailed of this.#onFailed) onFailed(neighbour);
		});
		child.stderr?.setEncoding("utf8").on("data", (text: string) => {
			this.#log.warn({ said: text.trim() }, "ip monitor lost messages, reading everything again");
			this.#emit(EVERYTHING);
		});
		child.on("error", (error) => this.#ended(error.message));
		child.on("exit", (status, signal) => this.#ended(`exit status ${signal ?? status}`));
	}

	#ended(why: string): void {
		if (this.#closed || this.#child === undefined) return;
		this.#child = undefined;
		this.#log.warn({ why, retryMs: this.#backoff }, "ip monitor ended, restarting");
		this.#restart = setTimeout(() => {
			this.#messages = new NetworkMessages();
			this.#start();
			this.#emit(EVERYTHING);
		}, this.#backoff);
		this.#restart.unref();
		this.#backoff = Math.min(this.#backoff * 2, RESTART_MS.most);
	}

	/** After the start, so that no change falls between the two. */
	async #learnNeighbours(messages: NetworkMessages): Promise<void> {
		try {
			const neighbours = await this.#ip.query<{ dst: string; dev: string; lladdr?: string }>(
				...["neighbour", "show"],
			);
			messages.learn(
				neighbours.map(({ dst, dev, lladdr = "" }) => ({ address: dst, device: dev, mac: lladdr })),
			);
		} catch (error) {
			// Without the list, the first message about each neighbour makes every next hop be resolved again.
			this.#log.debug({ err: error }, "cannot list the neighbours");
		}
	}

	#emit(events: NetworkEvents): void {
		if (!events.network && !events.own && !events.nextHops) return;
		for (const listener of this.#listeners) listener(events);
	}
}

const EVERYTHING: NetworkEvents = { network: true, own: true, nextHops: true };
