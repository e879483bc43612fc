/**
 * The agent's socket: HTTP and JSON on RUN_DIR/agent.sock. In its messages (messages/) addresses are canonical text,
 * sizes are bytes, and counters are numbers (exact up to 2^53).
 *
 * The run directory is locked while it is served, so an existing socket at start was left by an agent that no
 * longer exists.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { DirectoryLock } from "../linux/lock.js";
import { type ApiResponse, agentSocket, VERSION_HEADER } from "./client.js";
import { jsonPieces } from "./json_pieces.js";

/** Thrown by a handler to answer with a status of its choice and `{"error": message}`. */
export class RequestError extends Error {
	override readonly name = "RequestError";
	readonly status: number;

	constructor(status: number, message: string) {
		super(message);
		this.status = status;
	}
}

/**
 * Gets the decoded JSON body (undefined: none) and a signal that aborts when the client closes the
 * connection before it has its answer.
 */
export type Handler = (body: unknown, signal: AbortSignal) => ApiResponse | Promise<ApiResponse>;

/** By "METHOD /path". */
export type Handlers = Readonly<Record<string, Handler>>;

export interface ApiServerOptions {
	/** Longest request body in bytes; default 1 MiB (a CNI call is a few KiB). */
	bodyMax?: number;
	/** Time limit for receiving a complete request; default 5,000. */
	requestTimeoutMs?: number;
	/** Of Fairway; each answer names it in its headers. */
	version?: string;
	/** A handler threw anything but a RequestError. */
	onError?: (error: unknown, request: string) => void;
}

/** A socket of an agent that was killed before it had its name. */
const MADE_ASIDE = /^\.s[0-9a-f]{6}$/;

/** sun_path holds 107 bytes and a terminating zero (unix(7)). */
const SOCKET_PATH_MAX = 107;

export class ApiServer {
	readonly socketPath: string;
	readonly #server: Server;
	readonly #lock: DirectoryLock;

	private constructor(socketPath: string, server: Server, lock: DirectoryLock) {
		this.socketPath = socketPath;
		this.#server = server;
		this.#lock = lock;
	}

	/**
	 * Creates the run directory (with its parents), locks it and listens.
	 *
	 * @throws Error if another process holds this run directory, or the socket cannot be created
	 */
	static async open(
		runDir: string,
		handlers: Handlers,
		options: ApiServerOptions = {},
	): Promise<ApiServer> {
		const socketPath = agentSocket(runDir);
		const length = Buffer.byteLength(socketPath);
		if (length > SOCKET_PATH_MAX) {
			throw new Error(
				`Cannot make the socket ${socketPath}: expected a path of at most ${SOCKET_PATH_MAX} bytes, got ${length}`,
			);
		}
		const lock = DirectoryLock.take(runDir);
		if (lock === undefined) {
			throw new Error(`Cannot use the run directory ${runDir}: it is locked by another agent`);
		}
		for (const name of readdirSync(runDir).filter((one) => MADE_ASIDE.test(one)))
			rmSync(join(runDir, name), { force: true });
		const server = createServer((request, response) => {
			void serve(request, response, handlers, options);
		});
		server.requestTimeout = options.requestTimeoutMs ?? 5_000;
		server.headersTimeout = server.requestTimeout;

		// Created under another name, so that it never appears with other permissions.
		const made = socketPath.replace(/agent\.sock$/, `.s${randomBytes(3).toString("hex")}`);
		try {
			await new Promise<void>((resolve, reject) => {
				server.once("error", reject);
				server.listen(made, resolve);
			});
			chmodSync(made, 0o600);
			renameSync(made, socketPath);
			return new ApiServer(socketPath, server, lock);
		} catch (error) {
			server.close();
			rmSync(made, { force: true });
			lock.release();
			throw new Error(`Cannot listen at ${socketPath}: ${(error as Error).message}`, {
				cause: error,
			});
		}
	}

	/**
	 * Removes the socket and accepts no more requests. Current requests have `graceMs` to finish, so that no Pod
	 * is left half attached.
	 */
	async close(graceMs = 2_000): Promise<void> {
		rmSync(this.socketPath, { force: true });
		const server = this.#server;
		const impatience = setTimeout(() => server.closeAllConnections(), graceMs);
		await new Promise<void>((resolve) => {
			server.close(() => resolve());
			server.closeIdleConnections();
		});
		clearTimeout(impatience);
		this.#lock.release();
	}
}

async function serve(
	request: IncomingMessage,
	response: ServerResponse,
	handlers: Handlers,
	options: ApiServerOptions,
): Promise<void> {
	const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
	const name = `${request.method} ${path}`;
	const gone = new AbortController();
	if (options.version !== undefined) response.setHeader(VERSION_HEADER, options.version);
	response.on("close", () => {
		if (!response.writableFinished) gone.abort(new Error("The client closed the connection"));
	});
	try {
		const handler = handlers[name];
		if (handler === undefined) {
			const known = Object.keys(handlers).filter((key) => key.endsWith(` ${path}`));
			throw known.length > 0
				? new RequestError(405, `Cannot ${name}: expected ${known.join(" or ")}`)
				: new RequestError(
						404,
						`Cannot ${name}: expected one of ${Object.keys(handlers).join(", ")}`,
					);
		}
		const body = await readJson(request, options.bodyMax ?? 1024 * 1024);
		const answer = await handler(body, gone.signal);
		await send(response, answer);
	} catch (error) {
		// Nobody reads an answer any more.
		if (gone.signal.aborted) return;
		if (!(error instanceof RequestError)) {
			options.onError?.(error, name);
		}
		const status = error instanceof RequestError ? error.status : 500;
		const message = error instanceof Error ? error.message : String(error);
		await send(response, { status, body: { error: message } }, !request.complete);
	}
}

async function readJson(request: IncomingMessage, bodyMax: number): Promise<unknown> {
	const chunks: Buffer[] = [];
	let length = 0;
	try {
		for await (const chunk of request.iterator({ destroyOnReturn: false })) {
			chunks.push(chunk as Buffer);
			length += (chunk as Buffer).length;
			if (length > bodyMax) {
				throw new RequestError(
					413,
					`Cannot read the request: expected at most ${bodyMax} bytes, got more`,
				);
			}
		}
	} catch (error) {
		if (error instanceof RequestError) {
			throw error;
		}
		throw new RequestError(400, `Cannot read the request: ${(error as Error).message}`);
	}
	if (length === 0) {
		return undefined;
	}
	try {
		return JSON.parse(Buffer.concat(chunks).toString("utf8"));
	} catch (error) {
		throw new RequestError(
			400,
			`Cannot read the request: expected JSON: ${(error as Error).message}`,
		);
	}
}

async function send(response: ServerResponse, answer: ApiResponse, close = false): Promise<void> {
	if (response.destroyed || response.headersSent) {
		return;
	}
	const pieces = jsonPieces(answer.body);
	const first = pieces.next().value ?? "";
	const second = pieces.next();
	response.writeHead(answer.status, {
		"content-type": "application/json",
		...(second.done ? { "content-length": Buffer.byteLength(first) } : {}),
		// The rest of a request that was refused half-way is not read.
		...(close ? { connection: "close" } : {}),
	});
	if (second.done) {
		response.end(first);
		return;
	}
	response.write(first);
	await writePiece(response, second.value);
	for (const piece of pieces) await writePiece(response, piece);
	response.end();
}

/** Leaves a turn of the event loop to others, and waits for a slow client. */
async function writePiece(response: ServerResponse, piece: string): Promise<void> {
	if (response.destroyed) return;
	if (!response.write(piece)) await writable(response);
	await turn();
}

function writable(response: ServerResponse): Promise<void> {
	return new Promise((resolve) => {
		const done = () => {
			response.off("drain", done).off("close", done);
			resolve();
		};
		response.on("drain", done).on("close", done);
	});
}
