/**
 * Keeps a mirror of one kind of objects, by list and watch, for as long as it runs. client-go's
 * reflector is the reference.
 *
 *  1. list: streamed where the server can (the list is the beginning of the watch), else in pages;
 *     with a field selector in one piece, which the server has indexed
 *  2. watch from the list's resourceVersion; each event and bookmark moves it on
 *  3. a watch that ends is resumed; on another connection only if the server has not gone back
 *  4. a version that is too old (410, as a status or as an event) is listed again and compared: objects that the
 *     new list does not have are removed
 *  5. after all other failures it tries again, later each time, or when the server asks for it
 *
 * Nothing is removed because the API is unreachable, or its answers are malformed.
 */
import { Turns } from "../loop/turns.js";
import { UnreachableError } from "./access.js";
import { readBody, readList, STANDS_STILL } from "./answer_body.js";
import { ApiFailure } from "./answers.js";
import type { Answer } from "./api_client.js";
import { Backoff } from "./backoff.js";
import { type Clock, sleep } from "./clock.js";
import type { Connection } from "./connection.js";
import { Lines } from "./lines.js";
import type { Mirror } from "./mirror.js";
import { type ReflectorFacts, ReflectorState } from "./reflector_state.js";
import { type Resource, type ResourceClient, ResourceRequests } from "./resource_requests.js";
import { isOlder } from "./resource_version.js";
import { NonsenseError, readEvent } from "./watch_event.js";

export interface ReflectorOptions {
	client: ResourceClient;
	resource: Resource;
	mirror: Mirror;
	clock: Clock;
	/** `facts` or `problem` has changed. */
	onChange: () => void;
}

const PAGE = 500;
const PAUSES = { first: 200, last: 10_000 };
/** A watch ends after a time in this range, in seconds. */
const WATCH_S = { from: 300, to: 600 };
/** The server may end it this much later. */
const GRACE_MS = 30_000;
/** A streamed list that stands still for this long has failed: the server may not support it. */
const STREAM_IDLE_MS = 30_000;
/** A watch that ends earlier without an event counts as a failure. */
const SHORT_MS = 1000;
/** Tries of a server that lags before its state is listed and compared. */
const LAGGING_MAX = 3;
/** Answers in a row that the kind does not exist: a single one may come from a proxy. */
const ABSENCES = 5;
const ABSENT_MS = 300_000;
const FORBIDDEN_MS = 60_000;
/** Time until streamed lists are tried again on a server without them. */
const UNSTREAMED_MS = 3_600_000;

type Version = { at: string; connection: Connection };

export class Reflector {
	readonly #options: ReflectorOptions;
	readonly #backoff: Backoff;
	readonly #ended = new AbortController();
	readonly #requests: ResourceRequests;
	readonly #state: ReflectorState;
	/** Ends the present pause. */
	#pause = new AbortController();
	#running: Promise<void> | undefined;
	/** The version to watch from; undefined: list first. */
	#version: Version | undefined;
	/** The last version known of a list in one piece. "": the server's latest. */
	#wholeFrom = "0";
	#lagging = 0;
	#absences = 0;
	/** Streamed lists are not requested before this time. */
	#pagesUntil = 0;

	constructor(options: ReflectorOptions) {
		this.#options = options;
		this.#backoff = new Backoff(options.clock, PAUSES);
		this.#state = new ReflectorState(() => options.onChange());
		this.#requests = new ResourceRequests(options.client, options.resource, this.#ended.signal);
	}

	get facts(): ReflectorFacts {
		return this.#state.facts;
	}

	/** Why this kind is not known, or no longer current: one sentence that stays the same over attempts. */
	get problem(): string | undefined {
		return this.#state.problem;
	}

	/** @param delayMs before the first request */
	start(delayMs = 0): void {
		this.#running ??= this.#run(delayMs);
	}

	/** The server may have this kind now: if it was absent, it is requested again at once. */
	wake(): void {
		if (!this.facts.absent) return;
		this.#absences = 0;
		this.#backoff.reset();
		this.#pause.abort();
	}

	async close(): Promise<void> {
		this.#ended.abort(new Error("the agent is stopping"));
		this.#pause.abort();
		await this.#running;
	}

	async #run(delayMs: number): Promise<void> {
		const { signal } = this.#ended;
		await this.#sleep(delayMs);
		while (!signal.aborted) {
			let pause = 0;
			try {
				pause = await (this.#version === undefined ? this.#list() : this.#watch(this.#version));
			} catch (error) {
				if (signal.aborted) return;
				pause = await this.#recover(error as Error);
			}
			this.#state.note({ live: false });
			await this.#sleep(pause);
		}
	}

	async #sleep(ms: number): Promise<void> {
		if (ms <= 0 || this.#ended.signal.aborted) return;
		this.#pause = new AbortController();
		await sleep(this.#options.clock, ms, this.#pause.signal);
	}

	// ------------------------------------------------------------ list

	/** Returns ms to wait before the next step. */
	async #list(): Promise<number> {
		const { resource, clock } = this.#options;
		if (resource.list === "whole") await this.#readPages({ resourceVersion: this.#wholeFrom });
		else if (clock.now() >= this.#pagesUntil) return this.#streamList();
		else await this.#readPages({ limit: String(PAGE) });
		return 0;
	}

	/** A list that a watch follows on the same stream. */
	async #streamList(): Promise<number> {
		const answer = await this.#requests.open({
			watch: "1",
			sendInitialEvents: "true",
			resourceVersionMatch: "NotOlderThan",
			allowWatchBookmarks: "true",
			timeoutSeconds: this.#watchSeconds(),
		});
		this.#options.mirror.begin();
		return this.#read(answer, true);
	}

	async #readPages(query: Record<string, string>): Promise<void> {
		const { mirror, clock } = this.#options;
		mirror.begin();
		let rest = "";
		do {
			const answer = await this.#requests.open(rest === "" ? query : { ...query, continue: rest });
			const head = await readList(answer, clock, (text) => mirror.list(JSON.parse(text)));
			rest = head.continue;
			this.#state.note({ heardAt: clock.now() });
			if (rest === "") await this.#listed(head.resourceVersion, answer.connection);
		} while (rest !== "");
	}

	async #listed(at: string, connection: Connection): Promise<void> {
		await this.#options.mirror.end();
		this.#version = { at, connection };
		this.#wholeFrom = at;
		this.#lagging = 0;
		this.#backoff.reset();
		this.#state.listed(this.#options.clock.now());
	}

	// ------------------------------------------------------------ watch

	/** Returns ms to wait before it is resumed. */
	async #watch(version: Version): Promise<number> {
		const answer = await this.#requests.open({
			watch: "1",
			resourceVersion: version.at,
			allowWatchBookmarks: "true",
			timeoutSeconds: this.#watchSeconds(),
		});
		if (answer.connection !== version.connection) {
			try {
				await this.#checkAge(version);
			} catch (error) {
				answer.cancel();
				throw error;
			}
			this.#version = { at: version.at, connection: answer.connection };
		}
		return this.#read(answer, false);
	}

	/**
	 * A server whose store was restored from an older copy would send no events until its versions have passed
	 * ours: its state must be listed and compared.
	 */
	async #checkAge(version: Version): Promise<void> {
		const answer = await this.#requests.openOne();
		const { resourceVersion } = await readList(answer, this.#options.clock, () => {});
		if (!isOlder(resourceVersion, version.at)) return;
		this.#wholeFrom = "";
		throw new ApiFailure("the API server's store has gone back to an older state", "list");
	}

	/** Reads the events of a watch until it ends. `listing`: those of the list come first. */
	async #read(answer: Answer, listing: boolean): Promise<number> {
		const { clock, mirror, resource } = this.#options;
		const began = clock.now();
		const lines = new Lines();
		const turns = new Turns();
		let events = 0;
		const idle = () => (listing ? STREAM_IDLE_MS : WATCH_S.to * 1000 + GRACE_MS);
		if (!listing) this.#begun();
		const onLine = async (line: string): Promise<void> => {
			const { type, object, resourceVersion, endsList } = readEvent(line);
			events++;
			if (type === "BOOKMARK") {
				if (listing && endsList) {
					listing = false;
					await this.#listed(resourceVersion, answer.connection);
					this.#begun();
				} else if (listing) {
					// A server that knows streamed lists sends no other bookmark before.
					throw new ApiFailure("its list does not end", "unsupported");
				}
			} else if (listing && type === "DELETED") mirror.unlist(object);
			else if (listing) mirror.list(object);
			else if (type === "DELETED") mirror.remove(object);
			else mirror.change(object);
			if (listing) return;
			this.#moveOn(resourceVersion, answer.connection);
		};
		try {
			await readBody(answer, clock, idle, async (chunk) => {
				for (const line of lines.take(chunk)) {
					await onLine(line);
					if (turns.due) await turns.pass();
				}
			});
		} catch (error) {
			if (listing && (error as Error).message === STANDS_STILL)
				throw new ApiFailure(`${STANDS_STILL}, streamed`, "unsupported");
			throw error;
		}
		if (listing) throw new Error("the list ended before it was complete");
		if (events > 0 || clock.now() - began >= SHORT_MS) {
			this.#backoff.reset();
			return 0;
		}
		this.#state.fail(`Cannot watch ${plural(resource.kind)}: each watch ends at once`);
		this.#state.lost();
		return this.#backoff.next();
	}

	#begun(): void {
		this.#lagging = 0;
		this.#absences = 0;
		this.#requests.found();
		this.#state.watching();
	}

	#moveOn(at: string, connection: Connection): void {
		const before = this.#version;
		// Sent by a server whose store was restored while the connection held.
		if (before !== undefined && isOlder(at, before.at)) {
			this.#wholeFrom = "";
			throw new ApiFailure("the API server's store has gone back to an older state", "list");
		}
		this.#version = { at, connection };
		this.#wholeFrom = at;
		this.#state.note({ heardAt: this.#options.clock.now() });
	}

	#watchSeconds(): string {
		const { from, to } = WATCH_S;
		return String(Math.floor(from + this.#options.clock.random() * (to - from)));
	}

	// ------------------------------------------------------------ failures

	/** Returns ms to wait. */
	async #recover(error: Error): Promise<number> {
		const { clock, resource, mirror, onChange } = this.#options;
		const kinds = plural(resource.kind);
		this.#state.lost();
		// The client itself waits between attempts.
		if (error instanceof UnreachableError) return 0;
		const failure = error instanceof ApiFailure ? error : undefined;
		const jitter = (ms: number) => ms * (0.8 + clock.random() * 0.4);
		switch (failure?.remedy) {
			case "list":
				this.#version = undefined;
				// A version that is too old cannot be the base of a list either.
				if (this.#wholeFrom !== "0") this.#wholeFrom = "";
				return this.#backoff.next();
			case "lagging":
				if (++this.#lagging >= LAGGING_MAX) {
					this.#version = undefined;
					this.#wholeFrom = "";
				}
				return jitter(failure.afterMs ?? 1000);
			case "unsupported":
				if (this.#version === undefined && clock.now() >= this.#pagesUntil) {
					this.#pagesUntil = clock.now() + UNSTREAMED_MS;
					return 0;
				}
				if (this.#requests.changeSelectors()) {
					this.#version = undefined;
					this.#pagesUntil = 0;
					return 0;
				}
				break;
			case "absent":
				if (resource.optional !== true) break;
				if (resource.otherPaths !== undefined) {
					this.#version = undefined;
					if (this.#requests.nextPath()) return 0;
				}
				if (++this.#absences < ABSENCES) return this.#backoff.next();
				if (!(await this.#requests.isApi())) break;
				mirror.begin();
				await mirror.end();
				this.#version = undefined;
				this.#state.listed(clock.now(), true);
				return jitter(resource.absentMs ?? ABSENT_MS);
			case "forbidden":
				this.#state.fail(`Cannot watch ${kinds}: ${error.message}`);
				onChange();
				return jitter(failure?.afterMs ?? FORBIDDEN_MS);
		}
		const pause = Math.max(this.#backoff.next(), failure?.afterMs ?? 0);
		// A malformed event may have hidden a valid one.
		if (error instanceof NonsenseError) this.#version = undefined;
		if (failure !== undefined || error instanceof NonsenseError || this.#version === undefined)
			this.#state.fail(`Cannot watch ${kinds}: ${error.message}`);
		onChange();
		return failure?.afterMs === undefined ? pause : jitter(pause);
	}
}

function plural(kind: string): string {
	return kind.endsWith("s") ? kind : `${kind}s`;
}
