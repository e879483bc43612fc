/** The worker thread of document_reader.ts: parses one document at a time and sends its Nodes, a few per message. */
import { parentPort } from "node:worker_threads";
import { decodeText, NOT_UTF8, type WorkerReply, type WorkerRequest } from "./document_reader.js";
import { type DocumentResult, readDocument, readJson } from "./manifest_document.js";
import type { NodeReading } from "./node_object.js";

/** The receiver handles this many in 2 ms. */
const NODES_A_MESSAGE = 250;
/** Twice the maximum number of peers: more is not a cluster that Fairway can serve. */
const NODES_MAX = 32_768;

let waiting: NodeReading[] = [];

parentPort?.on("message", (request: WorkerRequest) => {
	if (request !== "next") {
		const result = read(request.bytes, request.yamlMax);
		if ("message" in result) {
			reply(result);
			return;
		}
		waiting = result.nodes;
	}
	const nodes = waiting.slice(0, NODES_A_MESSAGE);
	waiting = waiting.slice(NODES_A_MESSAGE);
	reply({ nodes, more: waiting.length > 0 });
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
	if ("nodes" in result && result.nodes.length > NODES_MAX)
		return refuse(
			`expected at most ${NODES_MAX} Nodes in one document, got ${result.nodes.length}`,
		);
	return result;
}
