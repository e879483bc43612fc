/**
 * Events about objects that cannot be used, or not fully: one when the problem appears, and again every hour while
 * it lasts; all of them within a budget.
 *
 * Every Node knows each Service and policy and would report the same, so only two Nodes do: those that rank first for
 * the object's name; two, since one may be down. Problems of a Pod are reported by its own Node.
 */
import { createHash } from "node:crypto";
import type { ObjectNotice } from "../cluster/reporter.js";
import type { Clock, Timer } from "./clock.js";

/** Problems that appear together share a report, and those that disappear at once are not reported. */
const SETTLE_MS = 5_000;
/** The API server forgets Events after an hour. */
const AGAIN_MS = 60 * 60_000;
const BUDGET_MS = 60_000;
/** Most Events in BUDGET_MS. */
const BUDGET = 10;
/** Most objects that are remembered; others are not reported. */
const OBJECTS_MOST = 1_000;
/** Number of Nodes that report the same problem. */
const SPEAKERS = 2;
const NOTE_MOST = 1_000;

export interface ObjectEvent {
	object: ObjectNotice["object"];
	reason: string;
	note: string;
}

export class ObjectNotices {
	readonly #clock: Clock;
	readonly #nodeName: string;
	readonly #send: (event: ObjectEvent) => void;
	/** The last Event of each object and its time, by key. */
	readonly #told = new Map<string, { note: string; at: number }>();
	/** The current Event of each object, by key. */
	#current = new Map<string, ObjectEvent>();
	#sent: number[] = [];
	#timer: Timer | undefined;

	constructor(clock: Clock, nodeName: string, send: (event: ObjectEvent) => void) {
		this.#clock = clock;
		this.#nodeName = nodeName;
		this.#send = send;
	}

	/**
	 * @param notices all current ones
	 * @param nodes names of all Nodes
	 */
	update(notices: readonly ObjectNotice[], nodes: readonly string[]): void {
		const current = new Map<string, ObjectEvent>();
		for (const { object, reason, message } of notices) {
			const key = keyOf(object);
			const known = current.get(key);
			if (known !== undefined) known.note = `${known.note} ${message}.`.slice(0, NOTE_MOST);
			else if (current.size < OBJECTS_MOST && this.#speaks(object, key, nodes))
				current.set(key, { object, reason, note: `${message}.`.slice(0, NOTE_MOST) });
		}
		this.#current = current;
		for (const [key, { at }] of this.#told)
			if (!current.has(key) && this.#clock.now() - at >= AGAIN_MS) this.#told.delete(key);
		this.#schedule(SETTLE_MS);
	}

	close(): void {
		this.#timer?.cancel();
	}

	#speaks({ kind }: ObjectNotice["object"], key: string, nodes: readonly string[]): boolean {
		if (kind === "Pod" || nodes.length <= SPEAKERS) return true;
		const own = rank(key, this.#nodeName);
		let before = 0;
		for (const node of nodes) if (node !== this.#nodeName && rank(key, node) < own) before++;
		return before < SPEAKERS;
	}

	#schedule(afterMs: number): void {
		if (this.#current.size > 0 && this.#timer === undefined)
			this.#timer = this.#clock.after(afterMs, () => this.#flush());
	}

	#flush(): void {
		const now = this.#clock.now();
		this.#timer = undefined;
		this.#sent = this.#sent.filter((at) => now - at < BUDGET_MS);
		for (const [key, event] of this.#current) {
			const told = this.#told.get(key);
			// A problem whose text changes with every endpoint is not reported more often.
			const pause = told?.note === event.note ? AGAIN_MS : AGAIN_MS / 6;
			if (told !== undefined && now - told.at < pause) continue;
			if (this.#sent.length >= BUDGET) break;
			this.#sent.push(now);
			this.#told.delete(key);
			this.#told.set(key, { note: event.note, at: now });
			this.#send(event);
		}
		if (this.#told.size > OBJECTS_MOST) {
			const [oldest] = this.#told.keys();
			this.#told.delete(oldest!);
		}
		this.#schedule(BUDGET_MS);
	}
}

function keyOf({ kind, namespace = "", name }: ObjectNotice["object"]): string {
	return `${kind} ${namespace}/${name}`;
}

function rank(key: string, node: string): string {
	return createHash("sha1").update(`${key} ${node}`).digest("hex");
}
