/**
 * Parses documents without blocking the event loop: small ones directly, large ones in a worker thread. The
 * worker is started on demand and ended soon after, so that agents with small manifests never pay for it.
 *
 * A document that takes the worker too long, or too much memory, is refused; the next one gets a new
 * worker.
 */
import { Worker } from "node:worker_threads";
import { type Reading, shareReading } from "./kinds.js";
import { type DocumentResult, readDocument, readJson } from "./manifest_document.js";

export interface DocumentReaderOptions {
	/** Time limit for one document in the worker; default 60,000. */
	timeoutMs?: number;
	/** The worker's heap, MiB; default 1024. */
	heapMiB?: number;
	/** Bytes of one YAML document; default 8 MiB, which takes some 700 MB of heap and 5 s. */
	yamlMax?: number;
}

/** Size limits for parsing directly, which takes some 4 ms. */
const INLINE = { yaml: 4 << 10, json: 64 << 10 };
const IDLE_MS = 5000;

/** Worker threads have no loader for TypeScript. The path works from src/cluster and from dist/bundle. */
const WORKER = new URL("../../dist/bundle/document_worker.js", import.meta.url);

/** To the worker: a document, or a request for more of its objects. */
export type WorkerRequest = { bytes: Uint8Array; yamlMax: number } | "next";
/** From the worker: objects, a few at a time, or an error. */
export type WorkerReply =
	| { readings: Reading[]; more: boolean }
	| Extract<DocumentResult, { message: string }>;

export class DocumentReader {
	readonly #options: Required<DocumentReaderOptions>;
	#worker: Worker | undefined;
	#idle: NodeJS.Timeout | undefined;
	#queue: Promise<unknown> = Promise.resolve();
	/** Resolves the promise of the document in the worker. */
	#take: (reply: WorkerReply) => void = () => {};
	#settle: (result: DocumentResult) => void = () => {};
	#closed = false;

	constructor(options: DocumentReaderOptions = {}) {
		this.#options = { timeoutMs: 60_000, heapMiB: 1024, yamlMax: 8 << 20, ...options };
	}

	/** The content of a document that is quick to parse; undefined: use `readLarge`. */
	readSmall(text: string): DocumentResult | undefined {
		if (text.length > INLINE.json) return undefined;
		return text.length <= INLINE.yaml ? readDocument(text) : readJson(text);
	}

	/** Takes ownership of `bytes`. Never rejects. */
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
		const readings: Reading[] = [];
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
				for (const reading of reply.readings) readings.push(shareReading(reading));
				// One message at a time: several would be handled in one turn of the event loop.
				if (reply.more) worker.postMessage("next" satisfies WorkerRequest);
				else this.#settle({ readings });
			};
			const request: WorkerRequest = { bytes, yamlMax };
			worker.postMessage(request, [bytes.buffer]);
		});
		worker.unref();
		// A worker that did not finish this document must not start the next one.
		if ("message" in result && result.line === 0) await this.#end();
		else this.#idle = setTimeout(() => void this.#end(), IDLE_MS).unref();
		return "message" in result ? { ...result, line: Math.max(result.line, 1) } : result;
	}

	#start(): Worker {
		if (this.#worker !== undefined) return this.#worker;
		const { heapMiB } = this.#options;
		const worker = new Worker(WORKER, {
			name: "manifests",
			// It needs none of the loaders that this process may have been started with.
			execArgv: [],
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

/** Line 0: the worker cannot continue. */
function refused(message: string): DocumentResult {
	return { line: 0, column: 1, message };
}

/** @throws TypeError if the bytes are not UTF-8 */
export function decodeText(bytes: Uint8Array): string {
	return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

export const NOT_UTF8 = "expected UTF-8 text, got other bytes";
