/** Sends requests to this Node's agent over its socket. */
import { request } from "node:http";

/** The socket of the agent with this run directory. */
export function agentSocket(runDir: string): string {
	return `${runDir.replace(/\/+$/, "")}/agent.sock`;
}

export interface ApiResponse {
	/** HTTP status. */
	status: number;
	/** The decoded JSON; undefined for an empty answer. */
	body: unknown;
}

export interface CallOptions {
	/** Sent as JSON. */
	body?: unknown;
	/** Time for the whole answer; default 10,000. Infinity: as long as the connection lasts. */
	timeoutMs?: number;
}

/** Nothing listens at the socket, or no usable answer came in time. */
export class AgentUnreachableError extends Error {
	override readonly name = "AgentUnreachableError";
	/** The errno of the connection ("ENOENT", "ECONNREFUSED", "EACCES"...), "ETIMEDOUT" or "EPROTO". */
	readonly code: string;

	constructor(socketPath: string, code: string, what: string) {
		super(`Cannot reach the agent at ${socketPath}: ${what}`);
		this.code = code;
	}
}

/** The agent refused the request. */
export class ApiError extends Error {
	override readonly name = "ApiError";
	/** HTTP status. */
	readonly status: number;

	constructor(status: number, message: string) {
		super(message);
		this.status = status;
	}
}

/** Names the agent's version in each answer; those before 0.1 lack it. */
export const VERSION_HEADER = "x-fairway-version";
let answeredBy: string | undefined;

/** The version of the agent that has answered last; "": it named none; undefined: none has answered. */
export function agentVersion(): string | undefined {
	return answeredBy;
}

/** The agent never answers with more. */
const ANSWER_MAX = 64 * 1024 * 1024;

/**
 * Sends one request and returns its answer, whatever the status.
 *
 * @throws AgentUnreachableError
 */
export function call(
	socketPath: string,
	method: "GET" | "POST",
	path: string,
	options: CallOptions = {},
): Promise<ApiResponse> {
	const { body, timeoutMs = 10_000 } = options;
	const payload = body === undefined ? undefined : JSON.stringify(body);
	return new Promise((resolve, reject) => {
		const headers: Record<string, string | number> = { host: "fairway", connection: "close" };
		if (payload !== undefined) {
			headers["content-type"] = "application/json";
			headers["content-length"] = Buffer.byteLength(payload);
		}
		const exchange = request({ socketPath, method, path, headers, agent: false }, (response) => {
			const chunks: Buffer[] = [];
			let length = 0;
			response.on("data", (chunk: Buffer) => {
				chunks.push(chunk);
				length += chunk.length;
				if (length > ANSWER_MAX) {
					fail("EPROTO", `the answer is longer than ${ANSWER_MAX} bytes`);
				}
			});
			response.on("error", onError);
			response.on("end", () => {
				clearTimeout(timer);
				answeredBy = String(response.headers[VERSION_HEADER] ?? "");
				const text = Buffer.concat(chunks).toString("utf8");
				try {
					resolve({
						status: response.statusCode ?? 0,
						body: text === "" ? undefined : JSON.parse(text),
					});
				} catch {
					fail("EPROTO", `the answer is not JSON: ${text.slice(0, 80)}`);
				}
			});
		});
		const timer = Number.isFinite(timeoutMs)
			? setTimeout(
					() => fail("ETIMEDOUT", `no answer within ${Math.round(timeoutMs)} ms`),
					timeoutMs,
				)
			: undefined;

		function fail(code: string, what: string): void {
			clearTimeout(timer);
			reject(new AgentUnreachableError(socketPath, code, what));
			exchange.destroy();
		}
		function onError(error: NodeJS.ErrnoException): void {
			fail(error.code ?? "EPROTO", explainErrno(error));
		}
		exchange.on("error", onError);
		exchange.end(payload);
	});
}

/**
 * Sends one request that must succeed.
 *
 * @throws AgentUnreachableError
 * @throws ApiError with the agent's message
 */
export async function ask<T>(
	socketPath: string,
	method: "GET" | "POST",
	path: string,
	options: CallOptions = {},
): Promise<T> {
	const { status, body } = await call(socketPath, method, path, options);
	if (status >= 400) {
		const said = (body as { error?: unknown } | undefined)?.error;
		throw new ApiError(
			status,
			typeof said === "string" ? said : `The agent answered with HTTP status ${status}`,
		);
	}
	return body as T;
}

function explainErrno(error: NodeJS.ErrnoException): string {
	switch (error.code) {
		case "ENOENT":
			return "no such socket (is the agent running, and with this --run-dir?)";
		case "ECONNREFUSED":
			return "connection refused (the agent has ended)";
		case "EACCES":
		case "EPERM":
			return "permission denied (the socket belongs to root)";
		case "ECONNRESET":
		case "EPIPE":
			return "the agent closed the connection without an answer";
		default:
			return error.message;
	}
}
