/**
 * A connection to one API server, over HTTP/2 or HTTP/1.1.
 *
 *  dial              TCP, TLS, and whichever protocol the server prefers (ALPN)
 *  Http2Connection   all requests on one connection, which is pinged when it is silent
 */
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { checkServerIdentity, connect as connectTls, type TLSSocket } from "node:tls";
import { type Access, hostOf, SERVICE_NAME } from "./access.js";
import type { Clock, Timer } from "./clock.js";
import { Http1Connection } from "./http1_connection.js";

export interface ApiRequest {
	method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
	/** Path and query, relative to the API's root. */
	path: string;
	headers: Record<string, string>;
	/** Sent unchanged. */
	body?: string;
	/** Ends the request, also while its answer is being read. */
	signal: AbortSignal;
}

export interface ApiResponse {
	status: number;
	/** By lower-case name. */
	headers: Record<string, string | undefined>;
	/** Ends with an error when the connection does. To leave the loop early does not end the request: `cancel` does. */
	body: AsyncIterable<Buffer>;
	/** Ends the request soon; its reader gets an error. */
	cancel(error?: Error): void;
}

export interface Connection {
	/** "https://192.0.2.1:6443" */
	readonly server: string;
	/** New requests may be sent. */
	readonly usable: boolean;
	/** @throws Error of the network; the connection may be unusable then */
	send(request: ApiRequest): Promise<ApiResponse>;
	/** Accepts no new requests, and closes when those in progress have ended. */
	retire(): void;
	/** Closes at once; requests in progress fail. */
	destroy(error: Error): void;
}

/** TCP and TLS may take this long. */
const DIAL_MS = 5000;
/** A connection that has been silent this long is pinged. */
export const SILENCE_MS = 10_000;
/** The answer to a ping may take this long. */
const PING_MS = 5000;
/** Most received bytes that have not been read, per request and in total. */
const STREAM_WINDOW = 1 << 20;
const SESSION_WINDOW = 16 << 20;

/** @throws Error of the network, of TLS, or after 5 s */
export async function dial(
	server: URL,
	access: Access,
	clock: Clock,
	signal: AbortSignal,
): Promise<Connection> {
	const tls = server.protocol === "https:" ? tlsOptions(server, access) : undefined;
	const port = Number(server.port || (tls === undefined ? 80 : 443));
	const target = { host: hostOf(server), port };
	const socket = tls === undefined ? connectTcp(target) : connectTls({ ...target, ...tls });
	await established(socket, tls === undefined ? "connect" : "secureConnect", clock, signal);
	// Finds out within 20 s that the other end is gone, where there are no pings.
	socket.setKeepAlive(true, SILENCE_MS);
	socket.setNoDelay(true);
	if ((socket as TLSSocket).alpnProtocol === "h2")
		return new Http2Connection(server, socket, clock);
	return new Http1Connection(server, socket, { ...target, ...tls });
}

function tlsOptions(server: URL, access: Access) {
	const host = hostOf(server);
	const names = access.serverName === undefined ? [host, ...namesOf(access)] : [access.serverName];
	return {
		ALPNProtocols: ["h2", "http/1.1"],
		rejectUnauthorized: access.insecure !== true,
		...(access.ca === undefined ? {} : { ca: access.ca }),
		...(access.certificate === undefined ? {} : { cert: access.certificate, key: access.key }),
		// No name is sent for an address (RFC 6066, 3).
		...(isIP(names[0]!) === 0 ? { servername: names[0]! } : { servername: "" }),
		checkServerIdentity: (_: string, certificate: Parameters<typeof checkServerIdentity>[1]) => {
			const errors = names.map((name) => checkServerIdentity(name, certificate));
			return errors.includes(undefined) ? undefined : errors[0];
		},
	};
}

/**
 * Names that may be in the certificate of any server: those of the cluster's other servers, and the one that they
 * have in common. Accepted only if the configured authority signs for this cluster alone.
 */
function namesOf(access: Access): string[] {
	if (access.ca === undefined) return [];
	return [...access.servers.map(hostOf), SERVICE_NAME];
}

function established(
	socket: Socket,
	event: "connect" | "secureConnect",
	clock: Clock,
	signal: AbortSignal,
): Promise<void> {
	return new Promise((resolve, reject) => {
		const fail = (error: Error) => {
			done();
			// Without a listener, later errors would be thrown.
			socket.on("error", () => undefined);
			socket.destroy();
			reject(error);
		};
		const onError = (error: Error) => fail(error);
		const onClose = () => fail(new Error("it closed the connection"));
		const onAbort = () => fail(new Error("given up"));
		const onDone = () => {
			done();
			resolve();
		};
		const timer = clock.after(DIAL_MS, () =>
			fail(new Error(`no connection within ${DIAL_MS / 1000} s`)),
		);
		const done = () => {
			timer.cancel();
			signal.removeEventListener("abort", onAbort);
			socket.off("error", onError).off("close", onClose).off(event, onDone);
		};
		socket.on("error", onError).on("close", onClose).on(event, onDone);
		signal.addEventListener("abort", onAbort, { once: true });
		if (signal.aborted) onAbort();
	});
}

/** The stream stays open when the loop is left early. */
function piecesOf(stream: Readable): AsyncIterable<Buffer> {
	return { [Symbol.asyncIterator]: () => stream.iterator({ destroyOnReturn: false }) };
}

/**
 * Not from within a callback of nghttp2, or a promise that one has resolved: resetting a stream while
 * frames are being received frees memory twice (Node.js defers the reset for some codes only).
 */
function outside(act: () => void): void {
	setImmediate(act);
}

class Http2Connection implements Connection {
	readonly server: string;
	readonly #session: ClientHttp2Session;
	readonly #clock: Clock;
	#usable = true;
	/** When anything was last received. */
	#heard: number;
	#timer: Timer | undefined;
	#why: Error | undefined;

	constructor(server: URL, socket: Socket, clock: Clock) {
		this.server = server.origin;
		this.#clock = clock;
		this.#heard = clock.now();
		this.#session = connectHttp2(server.origin, {
			createConnection: () => socket,
			settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
		});
		this.#session.on("connect", () => this.#session.setLocalWindowSize(SESSION_WINDOW));
		// Node.js lets the streams of a graceful GOAWAY end, and destroys the session for others.
		this.#session.on("goaway", () => (this.#usable = false));
		this.#session.on("error", (error) => (this.#why ??= error));
		this.#session.on("close", () => {
			this.#usable = false;
			this.#timer?.cancel();
		});
		this.#watchSilence();
	}

	get usable(): boolean {
		return this.#usable && !this.#session.closed && !this.#session.destroyed;
	}

	send({ method, path, headers, body, signal }: ApiRequest): Promise<ApiResponse> {
		return new Promise((resolve, reject) => {
			const failed = (error?: Error) =>
				reject(this.#why ?? error ?? new Error("it closed the connection"));
			if (!this.usable) return failed();
			const stream = this.#session.request(
				{ ":method": method, ":path": path, ...headers },
				{ endStream: body === undefined, signal },
			);
			stream.on("data", () => this.#hear());
			// Read by the receiver of the answer; a listener here would start the flow too early.
			stream.pause();
			stream.on("error", failed);
			stream.on("close", () => failed());
			stream.on("response", (answer) => {
				this.#hear();
				const { ":status": status = 0, ...rest } = answer;
				resolve({
					status,
					headers: rest as ApiResponse["headers"],
					body: piecesOf(stream),
					cancel: (error) => outside(() => stream.destroy(error)),
				});
			});
			if (body !== undefined) stream.end(body);
		});
	}

	retire(): void {
		this.#usable = false;
		outside(() => {
			if (!this.#session.closed) this.#session.close();
		});
	}

	destroy(error: Error): void {
		this.#usable = false;
		this.#why ??= error;
		outside(() => this.#session.destroy(error));
	}

	#hear(): void {
		this.#heard = this.#clock.now();
	}

	#watchSilence(): void {
		const left = this.#heard + SILENCE_MS - this.#clock.now();
		this.#timer = this.#clock.after(Math.max(left, 1), () => {
			if (this.#session.destroyed) return;
			if (this.#clock.now() - this.#heard >= SILENCE_MS) this.#ping();
			else this.#watchSilence();
		});
	}

	#ping(): void {
		let answered = false;
		const silent = () => {
			// An answer that came while this process was busy is read first.
			setImmediate(() => {
				if (!answered) this.destroy(new Error(`no answer to a ping within ${PING_MS / 1000} s`));
			});
		};
		this.#timer = this.#clock.after(PING_MS, silent);
		try {
			this.#session.ping((error) => {
				answered = true;
				if (error !== null) return;
				this.#timer?.cancel();
				this.#hear();
				this.#watchSilence();
			});
		} catch (error) {
			this.destroy(error as Error);
		}
	}
}
