/** How to go on after an answer of the API that is an error. */
import type { Answer } from "./api_client.js";

/** How to go on after a failure. */
export type Remedy =
	/** The resourceVersion is too old: list again. */
	| "list"
	/** This server lags behind the resourceVersion that is known already: try again soon. */
	| "lagging"
	/** The server does not have this kind. */
	| "absent"
	/** The agent has no permission for it. */
	| "forbidden"
	/** The server does not support the request: another form of it may work. */
	| "unsupported"
	/** The server fails: another one may work. */
	| "unwell"
	| "again";

export class ApiFailure extends Error {
	readonly remedy: Remedy;
	/** ms; undefined: not stated. */
	readonly afterMs: number | undefined;

	constructor(message: string, remedy: Remedy, afterMs?: number) {
		super(message);
		this.remedy = remedy;
		this.afterMs = afterMs;
	}
}

/** The most that is read of an answer. */
const BODY_MAX = 64 << 10;
const AFTER_MAX_S = 600;

/** Reads an answer that is an error; never rejects. */
export async function failureOf(answer: Answer): Promise<ApiFailure> {
	const text = await readSome(answer);
	let status: unknown;
	try {
		status = JSON.parse(text);
	} catch {}
	return statusFailure(status, answer.status, answer.headers["retry-after"]);
}

/**
 * @param status a Status object, of an answer or of an ERROR event; untrusted
 * @param code the HTTP status; undefined: the one in the object
 */
export function statusFailure(status: unknown, code?: number, retryAfter?: string): ApiFailure {
	const { message, reason, details, code: own } = mapping(status);
	const { retryAfterSeconds, causes } = mapping(details);
	const number = code ?? (typeof own === "number" ? own : 0);
	const seconds = Number(retryAfter ?? retryAfterSeconds);
	const afterMs = seconds > 0 ? Math.min(seconds, AFTER_MAX_S) * 1000 : undefined;
	const said = typeof message === "string" && message !== "" ? `: ${message.slice(0, 300)}` : "";
	const words = `the API server answered ${number || "an error"}${said}`;
	const failure = (remedy: Remedy) => new ApiFailure(words, remedy, afterMs);
	const lagging =
		/Too large resource version/i.test(said) ||
		(Array.isArray(causes) &&
			causes.some((cause) => mapping(cause).reason === "ResourceVersionTooLarge"));
	if (number === 410 || reason === "Expired" || reason === "Gone") return failure("list");
	if (lagging) return failure("lagging");
	if (number === 404) return failure("absent");
	if (number === 403) return failure("forbidden");
	if ([400, 405, 406, 415, 422].includes(number)) return failure("unsupported");
	if (number >= 500) return failure("unwell");
	return failure("again");
}

/** The whole of a short JSON answer. @throws Error */
export async function readJson(answer: Answer): Promise<unknown> {
	return JSON.parse(await readSome(answer, 4 << 20));
}

async function readSome(answer: Answer, max = BODY_MAX): Promise<string> {
	const parts: Buffer[] = [];
	let length = 0;
	try {
		for await (const part of answer.body) {
			parts.push(part);
			length += part.length;
			if (length > max) break;
		}
	} catch {
		// The part that arrived is enough.
	}
	answer.cancel();
	return Buffer.concat(parts).toString("utf8");
}

function mapping(value: unknown): Record<string, unknown> {
	return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
