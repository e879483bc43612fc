/**
 * Parses documents without holding up the event loop: small ones at once, large ones in a worker
 * thread. The worker is started when it is needed and ended soon after, so that an agent whose
 * manifests are small never pays for it.
 *
 * A document that takes the worker too long, or too much memory, is refused; the next one gets a new
 * worker.
 */
import { Worker } from "node:worker_threads";
import { type DocumentResult, readDocument, readJson } from "./manifest_document.js";
import type { NodeReading } from "./node_object.js";

export interface DocumentReaderOptions {
	/** One document may take the worker so long; default 60,000. */
	timeoutMs?: number;
	/** The worker's heap, MiB; default 1024. */
	heapMiB?: number;
	/** Bytes of one YAML document; default 8 MiB, which takes some 700 MB of heap and 5 s. */
	yamlMax?: number;
}

/** Parsed at once: takes some 4 ms. */
const INLINE = { yaml: 4 << 10, json: 64 << 10 };
const IDLE_MS = 5000;

/** Threads have no loader for TypeScript. From src/cluster and from dist/cluster it is the same way up. */
const WORKER = new URL("../../dist/cluster/document_worker.js", import.meta.url);

/** To the worker: a document, or the wish for more of its Nodes. */
export type WorkerRequest = { bytes: Uint8Array; yamlMax: number } | "next";
/** From the worker: Nodes, a few at a time, or what is wrong. */
export type WorkerReply =
	| { nodes: NodeReading[]; more: boolean }
	| Extract<DocumentResult, { message: string }>;

export class DocumentReader {
	readonly #options: Required<DocumentReaderOptions>;
	#worker: Worker | undefined;
	#idle: NodeJS.Timeout | undefined;
	#queue: Promise<unknown> = Promise.resolve();
	/** What the document in the worker is waited for with. */
	#take: (reply: WorkerReply) => void = () => {};
	#settle: (result: DocumentResult) => void = () => {};
	#closed = false;

	constructor(options: DocumentReaderOptions = {}) {
		this.#options = { timeoutMs: 60_000, heapMiB: 1024, yamlMax: 8 << 20, ...options };
	}

	/** What a document says, if that is quickly found out; undefined: it is for `readLarge`. */
	readSmall(text: string): DocumentResult | undefined {
		if (text.length > INLINE.json) return undefined;
		return text.length <= INLINE.yaml ? readDocument(text) : readJson(text);
	}

	/** Takes `bytes` over; nobody may use them afterwards. Never rejects. */
	readLarge(bytes: Uint8Array<ArrayBuffer>): Promise<DocumentResult> {
		const result = this.#queue.then(() => this.#inWorker(bytes));
		this.#queue = result;
		return result;
	}

	async close(): Promise<void> {
		this.#closed = true;
		await this.#end();
	}

	async #inWorker(bytes: Uint8Array<ArrayBuffer>): Promise<DocumentResult> {
		if (this.#closed) return refused("the agent is stopping");
		clearTimeout(this.#idle);
		const worker = this.#start();
		const { timeoutMs, yamlMax } = this.#options;
		const nodes: NodeReading[] = [];
		worker.ref();
		const result = await new Promise<DocumentResult>((resolve) => {
			const timer = setTimeout(
				() => this.#settle(refused(`expected it to be parsed within ${timeoutMs / 1000} s`)),
				timeoutMs,
			);
			this.#settle = (result) => {
				clearTimeout(timer);
				resolve(result);
			};
			this.#take = (reply) => {
				if ("message" in reply) return this.#settle(reply);
				for (const node of reply.nodes) nodes.push(node);
				// One message at a time: many would be taken in one turn of the event loop.
				if (reply.more) worker.postMessage("next" satisfies WorkerRequest);
				else this.#settle({ nodes });
			};
			const request: WorkerRequest = { bytes, yamlMax };
			worker.postMessage(request, [bytes.buffer]);
		});
		worker.unref();
		// What has not finished it, must not begin the next one.
		if ("message" in result && result.line === 0) await this.#end();
		else this.#idle = setTimeout(() => void this.#end(), IDLE_MS).unref();
		return "message" in result ? { ...result, line: Math.max(result.line, 1) } : result;
	}

	#start(): Worker {
		if (this.#worker !== undefined) return this.#worker;
		const { heapMiB } = this.#options;
		const worker = new Worker(WORKER, {
			name: "manifests",
			resourceLimits: { maxOldGenerationSizeMb: heapMiB },
		});
		this.#worker = worker;
		const mine = (act: () => void) => {
			if (this.#worker === worker) act();
		};
		worker.on("message", (reply: WorkerReply) => mine(() => this.#take(reply)));
		worker.on("error", (error: NodeJS.ErrnoException) => {
			const memory = error.code === "ERR_WORKER_OUT_OF_MEMORY";
			const why = memory ? `expected it to be parsed in ${heapMiB} MiB of memory` : error.message;
			mine(() => this.#settle(refused(why)));
		});
		worker.on("exit", () => {
			mine(() => {
				this.#worker = undefined;
				this.#settle(refused("its parser has ended"));
			});
		});
		return worker;
	}

	async #end(): Promise<void> {
		clearTimeout(this.#idle);
		const worker = this.#worker;
		const settle = this.#settle;
		this.#worker = undefined;
		await worker?.terminate();
		settle(refused("its parser has ended"));
	}
}

/** Line 0: the worker cannot go on. */
function refused(message: string): DocumentResult {
	return { line: 0, column: 1, message };
}

/** @throws TypeError where it is not UTF-8 */
export function decodeText(bytes: Uint8Array): string {
	return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

export const NOT_UTF8 = "expected UTF-8 text, got other bytes";
