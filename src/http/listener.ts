/**
 * One HTTP server whose address can change while it runs. Anyone who reaches the address may send requests: a few short
 * ones are answered at a time, slow ones are cut off.
 */
import { createServer, type RequestListener, type Server } from "node:http";
import { listenAddress } from "../config/listen_address.js";

/** Time until the next attempt to listen at an address that was in use. */
const RETRY_MS = 5_000;
const CONNECTIONS_MAX = 32;
const REQUEST_MS = 5_000;

export interface ListenerOptions {
	/** The key of the configuration, for the problem. */
	key: string;
	handle: RequestListener;
	retryMs?: number;
}

export class Listener {
	readonly #options: ListenerOptions;
	#address = "";
	#server: Server | undefined;
	#retry: NodeJS.Timeout | undefined;
	#problem: string | undefined;

	constructor(options: ListenerOptions) {
		this.#options = options;
	}

	/** Why it does not listen although it should; undefined: it does. */
	get problem(): string | undefined {
		return this.#problem;
	}

	/** Listens at this address from now on; "": nowhere. A failure is a problem, and retried. */
	async listen(address: string): Promise<void> {
		if (address === this.#address) return;
		this.#address = address;
		this.#stop();
		await this.#start(address);
	}

	close(): void {
		this.#address = "";
		this.#stop();
	}

	#stop(): void {
		clearTimeout(this.#retry);
		this.#problem = undefined;
		this.#server?.close();
		this.#server?.closeAllConnections();
		this.#server = undefined;
	}

	async #start(address: string): Promise<void> {
		const place = listenAddress(address);
		if (place === undefined) return;
		const server = createServer(this.#options.handle);
		server.maxConnections = CONNECTIONS_MAX;
		server.headersTimeout = REQUEST_MS;
		server.requestTimeout = REQUEST_MS;
		this.#server = server;
		await new Promise<void>((resolve) => {
			server.once("listening", resolve);
			server.on("error", (error) => {
				this.#failed(server, address, error);
				resolve();
			});
			server.listen(place);
		});
		if (this.#server === server && server.listening) this.#problem = undefined;
	}

	#failed(server: Server, address: string, error: Error): void {
		// The address was changed meanwhile.
		if (this.#server !== server) return;
		const { key, retryMs = RETRY_MS } = this.#options;
		this.#problem = `Cannot listen at ${address} (${key}): ${reason(error)}`;
		clearTimeout(this.#retry);
		this.#retry = setTimeout(() => void this.#start(address), retryMs).unref();
	}
}

function reason(error: NodeJS.ErrnoException): string {
	const words: Record<string, string> = {
		EADDRINUSE: "another process listens there",
		EADDRNOTAVAIL: "this Node does not have the address",
	};
	return words[error.code ?? ""] ?? error.message;
}
