/**
 * Events about path changes: at most one a minute for each peer, within a budget for all peers. A failing switch
 * changes thousands of paths on thousands of Nodes at once; that many Events would not help.
 */
import type { PathNotice } from "../cluster/reporter.js";
import type { Clock, Timer } from "./clock.js";

/** Changes that come together (both families, a path lost and restored) share one Event. */
const SETTLE_MS = 2000;
const PEER_MS = 60_000;
/** Events of single peers in PEER_MS; one Event summarizes the rest. */
const PEERS_MAX = 10;

export interface NoticeEvent {
	type: "Normal" | "Warning";
	reason: "PathDown" | "PathFallback" | "PathRestored" | "PathChanged" | "PathsChanged";
	note: string;
}

/** A peer's changes since its last Event. */
interface Pending {
	/** By family: before the first change, and the last change. */
	families: Map<4 | 6, { from: string; last: PathNotice }>;
	changes: number;
}

export class PathNotices {
	readonly #clock: Clock;
	readonly #send: (event: NoticeEvent) => void;
	readonly #pending = new Map<string, Pending>();
	/** When each peer had its last Event. */
	readonly #sent = new Map<string, number>();
	#sentAll = Number.NEGATIVE_INFINITY;
	#timer: Timer | undefined;

	constructor(clock: Clock, send: (event: NoticeEvent) => void) {
		this.#clock = clock;
		this.#send = send;
	}

	add(notices: readonly PathNotice[]): void {
		for (const notice of notices) {
			const { peer, family, from } = notice;
			const pending = this.#pending.get(peer) ?? { families: new Map(), changes: 0 };
			const before = pending.families.get(family)?.from ?? from;
			pending.families.set(family, { from: before, last: notice });
			pending.changes++;
			this.#pending.set(peer, pending);
		}
		if (this.#pending.size > 0) this.#timer ??= this.#clock.after(SETTLE_MS, () => this.#flush());
	}

	close(): void {
		this.#timer?.cancel();
	}

	#flush(): void {
		const now = this.#clock.now();
		this.#timer = undefined;
		for (const [peer, at] of this.#sent) if (now - at >= PEER_MS) this.#sent.delete(peer);
		const due = [...this.#pending].filter(([peer]) => !this.#sent.has(peer));
		for (const [peer, pending] of due.slice(0, PEERS_MAX - this.#sent.size)) {
			this.#pending.delete(peer);
			this.#sent.set(peer, now);
			this.#send(eventOf(peer, pending));
		}
		const rest = due.filter(([peer]) => this.#pending.has(peer));
		if (rest.length > 0 && now - this.#sentAll >= PEER_MS) {
			this.#sentAll = now;
			for (const [peer] of rest) this.#pending.delete(peer);
			const down = rest.filter(([, pending]) => isDown(pending)).length;
			this.#send({
				type: down > 0 ? "Warning" : "Normal",
				reason: "PathsChanged",
				note: `The paths to ${rest.length} more Nodes have changed, ${down} of them are down; see fairway peers`,
			});
		}
		if (this.#pending.size > 0) this.#timer = this.#clock.after(PEER_MS / 6, () => this.#flush());
	}
}

const UNTUNNELLED = new Set(["direct", "routed"]);

function isDown({ families }: Pending): boolean {
	return [...families.values()].some(({ last }) => last.to === "down");
}

function eventOf(peer: string, pending: Pending): NoticeEvent {
	const families = [...pending.families].sort(([a], [b]) => a - b);
	const texts = families.map(
		([family, { from, last }]) => `IPv${family} ${from} to ${last.to}: ${last.reason}`,
	);
	const times = pending.changes > families.length ? `, ${pending.changes} changes` : "";
	const note = `Path to Node ${peer}${times}. ${texts.join(" ")}`.slice(0, 1024);
	const some = (test: (from: string, to: string) => boolean) =>
		families.some(([, { from, last }]) => test(from, last.to));
	if (isDown(pending)) return { type: "Warning", reason: "PathDown", note };
	if (some((from, to) => UNTUNNELLED.has(from) && !UNTUNNELLED.has(to)))
		return { type: "Warning", reason: "PathFallback", note };
	if (some((from, to) => from === "down" || UNTUNNELLED.has(to)))
		return { type: "Normal", reason: "PathRestored", note };
	return { type: "Normal", reason: "PathChanged", note };
}
