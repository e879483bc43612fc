/** The worker thread of document_reader.ts: parses one document at a time and sends its objects, a few per message. */
import { parentPort } from "node:worker_threads";
import { decodeText, NOT_UTF8, type WorkerReply, type WorkerRequest } from "./document_reader.js";
import type { Reading } from "./kinds.js";
import { type DocumentResult, readDocument, readJson } from "./manifest_document.js";

/** The receiver handles this many in 2 ms. */
const OBJECTS_A_MESSAGE = 250;
/** Twice the maximum number of peers, and as many others: more belongs into several documents. */
const OBJECTS_MAX = 65_536;

let waiting: Reading[] = [];

parentPort?.on("message", (request: WorkerRequest) => {
	if (request !== "next") {
		const result = read(request.bytes, request.yamlMax);
		if ("message" in result) {
			reply(result);
			return;
		}
		waiting = result.readings;
	}
	const readings = waiting.slice(0, OBJECTS_A_MESSAGE);
	waiting = waiting.slice(OBJECTS_A_MESSAGE);
	reply({ readings, more: waiting.length > 0 });
});

function reply(message: WorkerReply): void {
	parentPort?.postMessage(message);
}

function read(bytes: Uint8Array, yamlMax: number): DocumentResult {
	const refuse = (message: string) => ({ line: 1, column: 1, message });
	let text: string;
	try {
		text = decodeText(bytes);
	} catch {
		return refuse(NOT_UTF8);
	}
	const json = readJson(text);
	if (json === undefined && bytes.length > yamlMax)
		return refuse(
			`expected at most ${yamlMax} bytes of YAML in one document, got ${bytes.length}; split it, or write it as JSON`,
		);
	const result = json ?? readDocument(text);
	if ("readings" in result && result.readings.length > OBJECTS_MAX)
		return refuse(
			`expected at most ${OBJECTS_MAX} objects in one document, got ${result.readings.length}`,
		);
	return result;
}
