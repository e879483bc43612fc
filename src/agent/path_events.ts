/** The last changes of paths, and since when each peer has the one that it has. */
import type { PathEvent } from "../api/messages.js";
import type { PeerDifference } from "./peer_differences.js";

/** Events that are kept; the oldest go first. */
export const EVENTS_MAX = 1_000;

/** Of a peer's path in one family. */
export interface PathAge {
	/** Epoch, ms: since when it is in force. */
	since: number;
	/** How often it has changed, the first path not counted. */
	changes: number;
}

export class PathEvents {
	readonly #events: PathEvent[] = [];
	readonly #ages = new Map<string, PathAge>();
	readonly #began: number;

	/** @param now epoch, ms */
	constructor(now: number) {
		this.#began = now;
	}

	/** @param now epoch, ms */
	add(differences: readonly PeerDifference[], now: number): void {
		const time = new Date(now).toISOString();
		for (const { kind, before, peer } of differences) {
			const { node, family, path, mtu, reason } = peer;
			const key = keyOf(node, family);
			if (kind === "removed") {
				this.#ages.delete(key);
			} else if (kind !== "changed") {
				const changes = kind === "added" ? 0 : this.age(node, family).changes + 1;
				this.#ages.set(key, { since: now, changes });
				const from = before?.path ?? null;
				this.#events.push({ time, node, family, from, to: path, mtu, reason });
			}
		}
		if (this.#events.length > EVENTS_MAX) this.#events.splice(0, this.#events.length - EVENTS_MAX);
	}

	/** Oldest first. */
	list(): readonly PathEvent[] {
		return this.#events;
	}

	age(node: string, family: 4 | 6): PathAge {
		return this.#ages.get(keyOf(node, family)) ?? { since: this.#began, changes: 0 };
	}
}

function keyOf(node: string, family: 4 | 6): string {
	return `${node}/${family}`;
}
