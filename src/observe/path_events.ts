/** The last changes of paths, and the time since when each peer has its present path. */
import type { PathEvent } from "../api/messages/paths.js";
import { type PathKind, peerKey } from "../tables/paths.js";
import type { PathRecords, PathRecordsNow } from "./path_memory.js";
import type { PeerDifference } from "./peer_differences.js";

/** Maximum number of events; the oldest are dropped. */
export const EVENTS_MAX = 1_000;

/** The age of a peer's path in one family. */
export interface PathAge {
	path: PathKind;
	/** Epoch, ms: since when it is in force. */
	since: number;
	/** Number of changes, without the first path. */
	changes: number;
}

export class PathEvents {
	readonly #events: PathEvent[];
	readonly #ages: Map<string, PathAge>;
	readonly #began: number;

	/** @param now epoch, ms */
	constructor(now: number, { ages, events }: Pick<PathRecords, "ages" | "events">) {
		this.#began = now;
		this.#ages = new Map();
		// Thousands of peers have the same.
		let last: PathAge | undefined;
		for (const [peer, age] of Object.entries(ages)) {
			if (last === undefined || !isSame(last, age)) last = age;
			this.#ages.set(peer, last);
		}
		this.#events = [...events];
	}

	/** @param now epoch, ms */
	add(differences: readonly PeerDifference[], now: number): void {
		const time = new Date(now).toISOString();
		// At the start thousands of peers get the same path at once.
		let last: PathAge | undefined;
		for (const { kind, peer } of differences) {
			const { node, family, path, mtu, reason } = peer;
			const key = peerKey(peer);
			const known = this.#ages.get(key);
			if (kind === "removed") this.#ages.delete(key);
			// The same path as before a restart of the agent, or a change that keeps the path.
			if (kind === "removed" || known?.path === path) continue;
			const changes = known === undefined ? 0 : known.changes + 1;
			if (last?.path !== path || last.changes !== changes) last = { path, since: now, changes };
			this.#ages.set(key, last);
			this.#events.push({ time, node, family, from: known?.path ?? null, to: path, mtu, reason });
		}
		if (this.#events.length > EVENTS_MAX) this.#events.splice(0, this.#events.length - EVENTS_MAX);
	}

	/** Forgets peers that were removed while no agent ran, since no event reports them. */
	keepOnly(isPeer: (node: string) => boolean): void {
		for (const key of this.#ages.keys())
			if (!isPeer(key.slice(0, key.lastIndexOf("/")))) this.#ages.delete(key);
	}

	/** Oldest first. */
	list(): readonly PathEvent[] {
		return this.#events;
	}

	/** The records for PathMemory, not a copy: they may change while it reads them. */
	records(): Pick<PathRecordsNow, "ages" | "events"> {
		return { ages: this.#ages, events: [...this.#events] };
	}

	age(node: string, family: 4 | 6): Omit<PathAge, "path"> {
		return this.#ages.get(peerKey({ node, family })) ?? { since: this.#began, changes: 0 };
	}
}

function isSame(a: PathAge, b: PathAge): boolean {
	return a.path === b.path && a.since === b.since && a.changes === b.changes;
}
