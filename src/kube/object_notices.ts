/**
 * Which objects that cannot be used, or not as they say, become Events of theirs: each once, and again every hour while
 * it stays so; all of them within a budget.
 *
 * Every Node knows of a Service or a policy, and each would say the same: two Nodes say it, those that rank first for
 * the object's name, so that one of them may be away. What is about a Pod is said by its Node.
 */
import { createHash } from "node:crypto";
import type { ObjectNotice } from "../cluster/reporter.js";
import type { Clock, Timer } from "./clock.js";

/** Problems that come together, or go again at once, are told together. */
const SETTLE_MS = 5_000;
/** Longer than an hour is hardly read: the API server forgets Events then. */
const AGAIN_MS = 60 * 60_000;
const BUDGET_MS = 60_000;
/** In BUDGET_MS. */
const BUDGET = 10;
/** Objects that are remembered; of more nothing is told. */
const OBJECTS_MOST = 1_000;
/** That say the same. */
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
	 * @param notices all that there are now
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
			// One that changes its words with every endpoint is told as rarely.
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
