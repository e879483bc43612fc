/** HTTP/1.1 to one API server, for TLS proxies without HTTP/2: a connection for each request in progress. */
import { Agent as HttpAgent, type RequestOptions, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import type { ApiRequest, ApiResponse, Connection } from "./connection.js";

/** Most idle connections that are kept for the next request. */
const IDLE_MAX = 2;
/** As for the first connection. */
const DIAL_MS = 5000;
const SILENCE_MS = 10_000;

export class Http1Connection implements Connection {
	readonly server: string;
	readonly #url: URL;
	readonly #tls: ConnectionOptions | undefined;
	readonly #agent: HttpAgent | HttpsAgent;
	/** Ends all requests. */
	readonly #ended = new AbortController();
	#usable = true;

	/** @param probe an established connection, which has shown that the server can be reached */
	constructor(url: URL, probe: Socket, tls: ConnectionOptions & { port: number }) {
		this.server = url.origin;
		this.#url = url;
		const options = { keepAlive: true, keepAliveMsecs: SILENCE_MS, maxFreeSockets: IDLE_MAX };
		this.#tls = url.protocol === "https:" ? { ...tls, ALPNProtocols: ["http/1.1"] } : undefined;
		this.#agent = this.#tls === undefined ? new HttpAgent(options) : new HttpsAgent(options);
		probe.destroy();
	}

	get usable(): boolean {
		return this.#usable;
	}

	send({ method, path, headers, body, signal }: ApiRequest): Promise<ApiResponse> {
		return new Promise((resolve, reject) => {
			const options: RequestOptions = {
				host: this.#url.hostname.replace(/^\[(.*)\]$/, "$1"),
				port: this.#url.port || (this.#tls === undefined ? 80 : 443),
				...this.#tls,
				agent: this.#agent,
				method,
				path,
				headers: {
					host: this.#url.host,
					...headers,
					...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
				},
				signal: AbortSignal.any([signal, this.#ended.signal]),
			};
			const request = this.#tls === undefined ? requestHttp(options) : requestHttps(options);
			request.on("socket", (socket) => {
				// kernel's own keep-alive: some 20 s until a dead connection is found.
				socket.setKeepAlive(true, SILENCE_MS);
				if (!socket.connecting) return;
				socket.setTimeout(DIAL_MS, () => {
					if (socket.connecting) socket.destroy(new Error(`no connection within ${DIAL_MS} ms`));
					socket.setTimeout(0);
				});
			});
			request.on("error", (error) => {
				// The next request opens a new connection, perhaps to another server.
				if (!signal.aborted) this.#usable = false;
				reject(error);
			});
			request.on("response", (answer) => {
				// A watch that breaks is an error of its body.
				answer.on("error", () => undefined);
				const headers = answer.headers as ApiResponse["headers"];
				resolve({
					status: answer.statusCode ?? 0,
					headers,
					body: answer.iterator({ destroyOnReturn: false }),
					cancel: (error) => answer.destroy(error),
				});
			});
			request.end(body);
		});
	}

	retire(): void {
		this.#usable = false;
	}

	destroy(error: Error): void {
		this.#usable = false;
		this.#ended.abort(error);
		this.#agent.destroy();
	}
}
