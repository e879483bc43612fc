/**
 * Objects written straight into etcd, as the API server stores them: thousands a second, where the server, which
 * validates, converts and audits each, takes hundreds on the same CPUs. The server learns of them as of those that
 * another server has written, by its watch of etcd.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";

/** Of connections, each with one request under way. */
const AT_ONCE = 32;
const CREATED = "2026-01-01T00:00:00Z";

export interface StoredObject {
	metadata: Record<string, unknown>;
}

export class Etcd {
	readonly #agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
	readonly #port: number;

	/** @param port of its clients, on 127.0.0.1 */
	constructor(port: number) {
		this.#port = port;
	}

	/**
	 * Writes objects that the API server has not seen, with what it would add: UID, time of creation, and the fields'
	 * managers of one that it has made. JSON, which it reads as well as its own protobuf.
	 *
	 * @param what key below /registry, and the object
	 * @throws Error when etcd does not take one
	 */
	async add(
		count: number,
		made: StoredObject,
		what: (i: number) => { key: string; object: object },
	): Promise<void> {
		const { managedFields } = made.metadata;
		let next = 0;
		const work = async (): Promise<void> => {
			while (next < count) {
				const { key, object } = what(next++);
				const { metadata } = object as StoredObject;
				const added = { uid: randomUUID(), creationTimestamp: CREATED, managedFields };
				await this.#put(
					`/registry/${key}`,
					JSON.stringify({ ...object, metadata: { ...metadata, ...added } }),
				);
			}
		};
		await Promise.all(Array.from({ length: AT_ONCE }, work));
	}

	close(): void {
		this.#agent.destroy();
	}

	async #put(key: string, value: string): Promise<void> {
		const [base64Key, base64Value] = [key, value].map((text) =>
			Buffer.from(text).toString("base64"),
		);
		const put = request({
			...{ agent: this.#agent, host: "127.0.0.1", port: this.#port },
			...{ method: "POST", path: "/v3/kv/put" },
		});
		put.end(JSON.stringify({ key: base64Key, value: base64Value }));
		const [answer] = (await once(put, "response")) as [IncomingMessage];
		const chunks: Buffer[] = [];
		for await (const chunk of answer) chunks.push(chunk as Buffer);
		if (answer.statusCode !== 200)
			throw new Error(
				`Cannot write ${key} into etcd: expected status 200, got ${answer.statusCode}: ${Buffer.concat(chunks)}`,
			);
	}
}
