/**
 * Reads the objects in a manifest file, in slices of a few milliseconds.
 *
 *  1. splits the bytes into documents; unchanged ones are not parsed again
 *  2. parses small documents directly
 *  3. leaves large ones to a worker thread
 */
import { createHash } from "node:crypto";
import type { Turns } from "../loop/turns.js";
import { type DocumentReader, decodeText, NOT_UTF8 } from "./document_reader.js";
import type { Reading } from "./kinds.js";
import type { DocumentResult } from "./manifest_document.js";

/** Results of a file's documents by content, so that a change does not parse all of them. */
export type DocumentCache = ReadonlyMap<string, DocumentResult>;

export type ManifestResult =
	| { readings: Reading[]; cache: DocumentCache }
	/** "LINE:COL: message": nothing in the file is used. `foreign`: it holds no Kubernetes object at all. */
	| { fault: string; foreign?: boolean };

/** Bytes processed between two checks of the clock: 1 to 2 ms. */
const CHUNK = 1 << 20;
/** Longer documents are identified by their hash and left to the worker thread. */
const KEY_MAX = 64 << 10;
const DOCUMENTS_MAX = 65_536;

interface Piece {
	from: number;
	to: number;
	/** First line of the document in the file, from 1. */
	line: number;
}

/**
 * The result, if all documents are small or known. Otherwise a function that parses the rest in the worker
 * thread, which may take long; nothing starts before it is called.
 */
export async function readManifest(
	bytes: Uint8Array,
	previous: DocumentCache,
	reader: DocumentReader,
	turns: Turns,
): Promise<ManifestResult | (() => Promise<ManifestResult>)> {
	const pieces = await splitDocuments(bytes, turns);
	if (pieces === undefined)
		return { fault: `1:1: expected at most ${DOCUMENTS_MAX} documents, got more` };
	const results: { piece: Piece; key: string; result: DocumentResult | undefined }[] = [];
	const inFile = new Map<string, DocumentResult>();
	for (const piece of pieces) {
		if (turns.due) await turns.pass();
		const content = bytes.subarray(piece.from, piece.to);
		try {
			const key = await keyOf(content, turns);
			const result = inFile.get(key) ?? previous.get(key) ?? smallResult(reader, content, key);
			if (result !== undefined) inFile.set(key, result);
			results.push({ piece, key, result });
			// The rest of the file is not used.
			if (result !== undefined && "message" in result) break;
		} catch (error) {
			if (!(error instanceof TypeError)) throw error;
			const result = { line: 1, column: 1, message: NOT_UTF8 };
			results.push({ piece, key: "", result });
			break;
		}
	}
	const conclude = (): ManifestResult => {
		const readings: Reading[] = [];
		const cache = new Map<string, DocumentResult>();
		for (const { piece, key, result } of results) {
			if (result === undefined) continue;
			if ("message" in result)
				return {
					fault: `${result.line + piece.line - 1}:${result.column}: ${result.message}`,
					foreign: pieces.length === 1 && result.foreign === true,
				};
			cache.set(key, result);
			for (const reading of result.readings) readings.push(reading);
		}
		return { readings, cache };
	};
	if (results.every(({ result }) => result !== undefined)) return conclude();
	return async () => {
		for (const row of results) {
			row.result ??= await reader.readLarge(await copyOf(bytes, row.piece, turns));
			if ("message" in row.result) break;
		}
		return conclude();
	};
}

/**
 * Splits before each line that begins with "---", which YAML allows only between documents (c-forbidden).
 * A file with directives or "..." stays in one piece. Undefined: too many documents.
 */
async function splitDocuments(bytes: Uint8Array, turns: Turns): Promise<Piece[] | undefined> {
	const whole = [{ from: 0, to: bytes.length, line: 1 }];
	const pieces: Piece[] = [];
	let [from, fromLine, line] = [0, 1, 1];
	let lineBegins = true;
	for (let chunk = 0; chunk < bytes.length; chunk += CHUNK) {
		if (turns.due) await turns.pass();
		const end = Math.min(bytes.length, chunk + CHUNK);
		for (let at = chunk; at < end; at++) {
			const byte = bytes[at];
			if (lineBegins) {
				if (byte === PERCENT || isThree(bytes, at, DOT)) return whole;
				if (at > from && isThree(bytes, at, DASH) && isSpace(bytes[at + 3])) {
					if (pieces.length === DOCUMENTS_MAX) return undefined;
					pieces.push({ from, to: at, line: fromLine });
					[from, fromLine] = [at, line];
				}
			}
			lineBegins = byte === NEWLINE || byte === RETURN;
			if (byte === NEWLINE) line++;
		}
	}
	pieces.push({ from, to: bytes.length, line: fromLine });
	return pieces;
}

const [NEWLINE, RETURN, PERCENT, DASH, DOT] = [0x0a, 0x0d, 0x25, 0x2d, 0x2e];

function isThree(bytes: Uint8Array, at: number, byte: number): boolean {
	return bytes[at] === byte && bytes[at + 1] === byte && bytes[at + 2] === byte;
}

/** White space or the end. */
function isSpace(byte: number | undefined): boolean {
	return byte === undefined || byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

function smallResult(
	reader: DocumentReader,
	content: Uint8Array,
	key: string,
): DocumentResult | undefined {
	return content.length <= KEY_MAX ? reader.readSmall(key) : undefined;
}

async function keyOf(content: Uint8Array, turns: Turns): Promise<string> {
	if (content.length <= KEY_MAX) return decodeText(content);
	const hash = createHash("sha256");
	for (let at = 0; at < content.length; at += CHUNK) {
		if (turns.due) await turns.pass();
		hash.update(content.subarray(at, at + CHUNK));
	}
	return `sha256 ${hash.digest("hex")}`;
}

/** Copies in chunks: the memory is new, and touching it costs more than copying. */
async function copyOf(
	bytes: Uint8Array,
	{ from, to }: Piece,
	turns: Turns,
): Promise<Uint8Array<ArrayBuffer>> {
	const copy = new Uint8Array(Buffer.allocUnsafeSlow(to - from).buffer);
	for (let at = from; at < to; at += CHUNK) {
		if (turns.due) await turns.pass();
		copy.set(bytes.subarray(at, Math.min(at + CHUNK, to)), at - from);
	}
	return copy;
}
