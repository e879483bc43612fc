/**
 * `fairwayProxy.healthServer`: the health endpoints of kube-proxy that clouds' load balancers and others query, with
 * the same answers.
 *
 *  /livez    Services are served, and their changes are in force in time
 *  /healthz  the same, and this Node is not about to be removed: new connections may be sent to it
 *
 * Before anything is in force this Node serves no Service, so both answer 503 then; kube-proxy answers 200.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { answer } from "./health.js";

/** A change that is not in force after this long: kube-proxy's limit with its own defaults. */
const BEHIND_MAX_MS = 60_000;
/** Go's zero time in JSON. */
const NEVER = "0001-01-01T00:00:00Z";

export interface ProxyHealthOptions {
	/** False: this Node is about to be removed, or is not known. */
	isNodeEligible: () => boolean;
	/** IP families of its Pods. */
	families: () => readonly (4 | 6)[];
	/** Milliseconds that only grow. Default: of this process. */
	now?: () => number;
	/** Default: of this machine. */
	date?: () => Date;
}

export class ProxyHealth {
	readonly #options: Required<ProxyHealthOptions>;
	#lastUpdated: Date | undefined;
	/** Time of the oldest change that is not in force; undefined: there is none. */
	#behindSince: number | undefined;

	constructor(options: ProxyHealthOptions) {
		this.#options = { now: () => performance.now(), date: () => new Date(), ...options };
	}

	/** A change was received, or could not be applied. */
	queued(): void {
		this.#behindSince ??= this.#options.now();
	}

	/** All changes are in force. */
	updated(): void {
		this.#behindSince = undefined;
		this.#lastUpdated = this.#options.date();
	}

	get isHealthy(): boolean {
		const { now } = this.#options;
		const isBehind = this.#behindSince !== undefined && now() - this.#behindSince >= BEHIND_MAX_MS;
		return this.#lastUpdated !== undefined && !isBehind;
	}

	readonly handle = (request: IncomingMessage, response: ServerResponse): void => {
		const path = request.url?.split("?", 1)[0];
		const { isNodeEligible } = this.#options;
		if (path === "/livez") this.#answer(response, this.isHealthy, {});
		else if (path === "/healthz") {
			const nodeEligible = isNodeEligible();
			this.#answer(response, this.isHealthy && nodeEligible, { nodeEligible });
		} else answer(response, 404, "Cannot answer: expected /healthz or /livez");
	};

	/** The members in kube-proxy's order; `more` is that of /healthz alone. */
	#answer(response: ServerResponse, isGood: boolean, more: { nodeEligible?: boolean }): void {
		const { date, families } = this.#options;
		const healthy = this.isHealthy;
		const currentTime = date().toISOString();
		const updated = this.#lastUpdated?.toISOString() ?? NEVER;
		// As in kube-proxy: recent while nothing is pending, whenever the last change was.
		const lastUpdated = isGood ? currentTime : updated;
		const status = Object.fromEntries(
			families().map((family) => [`IPv${family}`, { lastUpdated: updated, healthy }]),
		);
		answerJson(response, isGood ? 200 : 503, {
			lastUpdated,
			currentTime,
			...more,
			healthy,
			status,
		});
	}
}

/** @param indent of the lines; undefined: one line */
export function answerJson(
	response: ServerResponse,
	status: number,
	body: object,
	headers: Readonly<Record<string, string>> = {},
	indent?: string,
): void {
	const text = JSON.stringify(body, undefined, indent);
	response.writeHead(status, {
		"content-type": "application/json",
		"content-length": Buffer.byteLength(text),
		"x-content-type-options": "nosniff",
		...headers,
	});
	response.end(text);
}
