/** Parses the lines of `ip -oneline monitor label`. */
import { isOwnDevice, isPodInterface, ROUTE_PROTOCOL } from "./names.js";

export interface NetworkEvents {
	/** A link, address or route other than Fairway's has changed. */
	network: boolean;
	/**
	 * A device of Fairway has changed, or a route or address of it or the neighbour of a Pod was removed, by
	 * Fairway or by someone else. Additions do not matter: they are Fairway's own.
	 */
	own: boolean;
	/** Something that cached next hops depend on has changed: a route, a link, a neighbour's MAC or state. */
	nextHops: boolean;
}

const NOTHING: NetworkEvents = { network: false, own: false, nextHops: false };

/** Remembers the neighbours' MACs: only a new MAC counts as a change. */
export class NetworkMessages {
	readonly #macs = new Map<string, string>();
	/** Until the initial neighbours are known, the first message about any neighbour may be a change. */
	#knowsAll = false;

	/** Takes the initial neighbours in; those that messages have reported meanwhile stay. */
	learn(neighbours: readonly { address: string; device: string; mac: string }[]): void {
		for (const { address, device, mac } of neighbours) {
			const key = `${address} ${device}`;
			if (!this.#macs.has(key)) this.#macs.set(key, mac);
		}
		this.#knowsAll = true;
	}

	read(lines: readonly string[]): NetworkEvents {
		const events = { ...NOTHING };
		for (const line of lines) {
			const { kind, deleted, text } = parseMessage(line) ?? {};
			if (kind === undefined || text === undefined || isPrefixCache(text)) continue;
			const device = deviceOf(kind, text);
			// The kernel's own entries, one for each probed peer: the kernel evicts some all the time.
			if (kind === "NEIGH" && isOwnDevice(device) && !isPodInterface(device)) continue;
			if (isOwnDevice(device) || text.includes(` proto ${ROUTE_PROTOCOL} `)) {
				if (deleted === true || kind === "LINK") events.own = true;
			} else if (kind === "NEIGH") {
				if (this.#neighbourChanged(text, device, deleted === true)) events.nextHops = true;
			} else {
				events.network = true;
				events.nextHops = true;
			}
		}
		return events;
	}

	/** Transitions between REACHABLE, STALE, DELAY and PROBE do not affect cached next hops. */
	#neighbourChanged(text: string, device: string, deleted: boolean): boolean {
		const key = `${text.split(" ", 1)[0]} ${device}`;
		const mac = / lladdr (\S+)/.exec(text)?.[1] ?? "";
		const before = this.#macs.get(key);
		if (deleted) this.#macs.delete(key);
		else this.#macs.set(key, mac);
		// Unresolved before and after: a scan of unused addresses must not cause work.
		if (deleted || mac === "") return before !== undefined && before !== "";
		// No cached next hop depends on a neighbour that did not exist.
		if (before === undefined) return !this.#knowsAll;
		return before !== "" && before !== mac;
	}
}

export interface Neighbour {
	address: string;
	device: string;
}

/** The neighbours that these lines report as failed. */
export function failedNeighbours(lines: readonly string[]): Neighbour[] {
	return lines.flatMap((line) => {
		const match = /^\[NEIGH\](\S+) dev (\S+) .*\bFAILED\b/.exec(line);
		return match?.[1] === undefined || match[2] === undefined
			? []
			: [{ address: match[1], device: match[2] }];
	});
}

type MessageKind = "LINK" | "ADDR" | "ROUTE" | "NEIGH";

/** Splits "[ROUTE]Deleted 10.0.0.0/8 dev eth0 ..." into its parts. */
function parseMessage(
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

/** True for path MTUs and redirects that the kernel has learned, which are not configuration. */
function isPrefixCache(text: string): boolean {
	return text.includes(" cache ");
}
