/** What the lines of `ip -oneline monitor label` say has changed. */
import { isOwnDevice, ROUTE_PROTOCOL } from "./names.js";

export interface NetworkEvents {
	/** A link, address or route that is not Fairway's own changed. */
	network: boolean;
	/**
	 * A device of Fairway's changed, or a route, address or neighbour of its went: by us, or by
	 * someone else. What is added is no reason to look: it is our own doing.
	 */
	own: boolean;
	/** What a cached next hop may rest on changed: routes, links, a neighbour's MAC or its death. */
	nextHops: boolean;
}

const NOTHING: NetworkEvents = { network: false, own: false, nextHops: false };

/** Knows the neighbours' MACs from the lines before: only a new one counts as a change. */
export class NetworkMessages {
	readonly #macs = new Map<string, string>();

	read(lines: readonly string[]): NetworkEvents {
		const events = { ...NOTHING };
		for (const line of lines) {
			const { kind, deleted, text } = parseMessage(line) ?? {};
			if (kind === undefined || text === undefined || isPrefixCache(text)) continue;
			const device = deviceOf(kind, text);
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

	/** The steps between REACHABLE, STALE, DELAY and PROBE change nothing that is cached. */
	#neighbourChanged(text: string, device: string, deleted: boolean): boolean {
		const key = `${text.split(" ", 1)[0]} ${device}`;
		const mac = / lladdr (\S+)/.exec(text)?.[1] ?? "";
		const before = this.#macs.get(key);
		if (deleted) this.#macs.delete(key);
		else this.#macs.set(key, mac);
		// Unresolved, and it was so before: a scan of empty addresses must not cost anyone anything.
		if (deleted || mac === "") return before !== undefined && before !== "";
		return before !== "" && before !== mac;
	}
}

type MessageKind = "LINK" | "ADDR" | "ROUTE" | "NEIGH";

/** "[ROUTE]Deleted 10.0.0.0/8 dev eth0 ..." → its parts. */
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

/** Path MTUs and redirects that the kernel learned: not of its configuration. */
function isPrefixCache(text: string): boolean {
	return text.includes(" cache ");
}
