/**
 * Follows the kernel's links, addresses, routes and neighbours through `ip monitor`.
 *
 * A message says only that something changed, and where; whoever listens reads the state anew.
 * The process can die or lose messages (a full socket buffer): then everything counts as changed.
 */
import type { ChildProcess } from "node:child_process";
import type { IpRoute } from "./iproute.js";
import type { Log } from "./log.js";
import { isOwnDevice, ROUTE_PROTOCOL } from "./names.js";

export interface NetworkEvents {
	/** A link, address or route that is not Fairway's own changed. */
	network: boolean;
	/** A device or route of Fairway's changed: by us, or by someone else. */
	own: boolean;
	/** What a cached next hop may rest on changed: routes, links, a neighbour's MAC or its death. */
	nextHops: boolean;
}

const RESTART_MS = { first: 100, most: 10_000 };

export class NetworkMonitor {
	readonly #ip: IpRoute;
	readonly #log: Log;
	readonly #listeners = new Set<(events: NetworkEvents) => void>();
	readonly #neighbours = new Map<string, string>();
	#child: ChildProcess | undefined;
	#restart: NodeJS.Timeout | undefined;
	#backoff = RESTART_MS.first;
	#closed = false;

	constructor(ip: IpRoute, log: Log) {
		this.#ip = ip;
		this.#log = log;
		this.#start();
	}

	/** Events come in batches, as the kernel sends them; nothing is debounced here. */
	listen(onEvents: (events: NetworkEvents) => void): { close(): void } {
		this.#listeners.add(onEvents);
		return { close: () => this.#listeners.delete(onEvents) };
	}

	/** Process id of `ip monitor`; undefined while it is being started again. */
	get pid(): number | undefined {
		return this.#child?.pid;
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#restart);
		this.#listeners.clear();
		this.#child?.kill();
	}

	#start(): void {
		const objects = ["link", "address", "route", "neigh"];
		const child = this.#ip.start("ip", "-oneline", "monitor", "label", ...objects);
		this.#child = child;
		let rest = "";
		child.stdout?.setEncoding("utf8").on("data", (text: string) => {
			this.#backoff = RESTART_MS.first;
			const lines = (rest + text).split("\n");
			rest = lines.pop() ?? "";
			this.#emit(this.#read(lines));
		});
		child.stderr?.setEncoding("utf8").on("data", (text: string) => {
			this.#log.warn({ said: text.trim() }, "ip monitor lost messages; reading everything anew");
			this.#emit(EVERYTHING);
		});
		child.on("error", (error) => this.#ended(error.message));
		child.on("exit", (status, signal) => this.#ended(`exit status ${signal ?? status}`));
	}

	#ended(why: string): void {
		if (this.#closed || this.#child === undefined) return;
		this.#child = undefined;
		this.#log.warn({ why, retryMs: this.#backoff }, "ip monitor ended; starting it again");
		this.#restart = setTimeout(() => {
			this.#neighbours.clear();
			this.#start();
			this.#emit(EVERYTHING);
		}, this.#backoff);
		this.#restart.unref();
		this.#backoff = Math.min(this.#backoff * 2, RESTART_MS.most);
	}

	#emit(events: NetworkEvents): void {
		if (!events.network && !events.own && !events.nextHops) return;
		for (const listener of this.#listeners) listener(events);
	}

	#read(lines: string[]): NetworkEvents {
		const events = { ...NOTHING };
		for (const line of lines) {
			const { kind, deleted, text } = parseMessage(line) ?? {};
			if (kind === undefined || text === undefined || isPrefixCache(text)) continue;
			const device = deviceOf(kind, text);
			if (kind === "NEIGH") {
				if (isOwnDevice(device)) continue;
				if (this.#neighbourChanged(text, device, deleted === true)) events.nextHops = true;
			} else if (isOwnDevice(device) || text.includes(` proto ${ROUTE_PROTOCOL} `)) {
				events.own = true;
			} else {
				events.network = true;
				events.nextHops = true;
			}
		}
		return events;
	}

	/** The steps between REACHABLE, STALE, DELAY and PROBE change nothing that is cached. */
	#neighbourChanged(text: string, device: string, deleted: boolean): boolean {
		const key = `${text.split(" ", 1)[0]} ${device}`;
		const mac = / lladdr (\S+)/.exec(text)?.[1] ?? "";
		const before = this.#neighbours.get(key);
		if (deleted) this.#neighbours.delete(key);
		else this.#neighbours.set(key, mac);
		// Unresolved, and it was so before: a scan of empty addresses must not cost anyone anything.
		if (deleted || mac === "") return before !== undefined && before !== "";
		return before !== "" && before !== mac;
	}
}

const NOTHING: NetworkEvents = { network: false, own: false, nextHops: false };
const EVERYTHING: NetworkEvents = { network: true, own: true, nextHops: true };

export type MessageKind = "LINK" | "ADDR" | "ROUTE" | "NEIGH";

/** "[ROUTE]Deleted 10.0.0.0/8 dev eth0 ..." → its parts. */
export function parseMessage(
	line: string,
): { kind: MessageKind; deleted: boolean; text: string } | undefined {
	const match = /^\[(LINK|ADDR|ROUTE|NEIGH)\](Deleted )?(.*)$/.exec(line);
	if (match === null) return undefined;
	return {
		kind: match[1] as MessageKind,
		deleted: match[2] !== undefined,
		text: `${match[3] ?? ""} `,
	};
}

/** "2: eth0@if3: <...", "2: eth0    inet ...", "... dev eth0 ..." */
function deviceOf(kind: MessageKind, text: string): string {
	if (kind === "LINK" || kind === "ADDR") return /^\d+: ([^\s:@]+)/.exec(text)?.[1] ?? "";
	return / dev (\S+)/.exec(text)?.[1] ?? "";
}

/** Path MTUs and redirects that the kernel learned: not of its configuration. */
function isPrefixCache(text: string): boolean {
	return text.includes(" cache ");
}
