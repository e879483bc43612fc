/** A relay before a server, which can stop to carry anything, in silence, as a broken network does. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class Relay {
	readonly #server: Server;
	readonly #sockets = new Set<Socket>();
	#silent = false;
	port = 0;

	constructor(target: () => number) {
		this.#server = createServer((client) => {
			const server = connect(target(), "127.0.0.1");
			for (const [from, to] of [
				[client, server],
				[server, client],
			] as const) {
				this.#sockets.add(from);
				from.on("data", (data) => {
					if (!this.#silent) to.write(data);
				});
				from.on("error", () => undefined);
				from.on("close", () => {
					this.#sockets.delete(from);
					if (!this.#silent) to.destroy();
				});
			}
		});
	}

	async start(): Promise<this> {
		await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
		this.port = (this.#server.address() as AddressInfo).port;
		return this;
	}

	get url(): string {
		return `https://127.0.0.1:${this.port}`;
	}

	/** From now on nothing gets through, and neither end is notified. */
	silence(silent = true): void {
		this.#silent = silent;
	}

	async stop(): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}
