/**
 * The text of a manifest file → what it says of Nodes.
 *
 *  1. text → documents; each is parsed by itself, and one that did not change is not parsed again
 *  2. document → objects (a List has several)
 *  3. object → by its kind: Nodes are read; other kinds are left to those who will need them
 */
import { ALIASES_MAX, firstLine, parseYaml, positionOf } from "../config/yaml.js";
import { type NodeReading, readNode } from "./node_object.js";

/** Keeps what a file's documents said, so that one change does not parse them all. */
export type DocumentCache = ReadonlyMap<string, DocumentResult>;

export type ManifestResult =
	| { nodes: NodeReading[]; cache: DocumentCache }
	/** "LINE:COL: message": nothing in the file is used. */
	| { fault: string };

type DocumentResult = { nodes: NodeReading[] } | { line: number; column: number; message: string };

export function readManifest(text: string, previous: DocumentCache = new Map()): ManifestResult {
	const cache = new Map<string, DocumentResult>();
	const nodes: NodeReading[] = [];
	for (const { content, line } of splitDocuments(text)) {
		const result = cache.get(content) ?? previous.get(content) ?? readDocument(content);
		if ("message" in result)
			return { fault: `${result.line + line - 1}:${result.column}: ${result.message}` };
		cache.set(content, result);
		nodes.push(...result.nodes);
	}
	return { nodes, cache };
}

/**
 * Cuts before each line that begins with "---": YAML has that nowhere but between documents
 * (c-forbidden). With directives or "..." the whole text stays in one piece.
 */
function splitDocuments(text: string): { content: string; line: number }[] {
	if (/^(%|\.\.\.)/m.test(text)) return [{ content: text, line: 1 }];
	const pieces = text.split(/^(?=---(?:\s|$))/m);
	let line = 1;
	return pieces.map((content) => {
		const piece = { content, line };
		for (let at = content.indexOf("\n"); at >= 0; at = content.indexOf("\n", at + 1)) line++;
		return piece;
	});
}

function readDocument(text: string): DocumentResult {
	const json = tryJson(text);
	if (json !== undefined) return readObjects(json, 1, 1);
	const { documents, lines, faults } = parseYaml(text);
	const [fault] = faults;
	if (fault !== undefined)
		return { ...positionOf(lines, fault.offset), message: `wanted YAML: ${fault.message}` };
	const nodes: NodeReading[] = [];
	for (const document of documents) {
		const { line, column } = positionOf(lines, document.contents?.range?.[0] ?? 0);
		let value: unknown;
		try {
			value = document.toJS({ maxAliasCount: ALIASES_MAX });
		} catch (error) {
			return { line, column, message: `wanted YAML: ${firstLine(error)}` };
		}
		const result = readObjects(value, line, column);
		if ("message" in result) return result;
		nodes.push(...result.nodes);
	}
	return { nodes };
}

/** JSON is YAML, but parses a hundred times faster as what it is. */
function tryJson(text: string): unknown {
	if (!/^\s*\{/.test(text)) return undefined;
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

function readObjects(value: unknown, line: number, column: number): DocumentResult {
	// Nothing between two separators, or only comments.
	if (value === null || value === undefined) return { nodes: [] };
	const object = asMapping(value);
	const kind = object?.kind;
	if (object === undefined || typeof kind !== "string")
		return { line, column, message: `wanted a Kubernetes object with a kind, got ${show(value)}` };
	if (kind.endsWith("List") && Array.isArray(object.items)) {
		const nodes: NodeReading[] = [];
		for (const item of object.items) {
			// The items of a NodeList need not repeat their kind.
			const whole = { apiVersion: object.apiVersion, kind: kind.slice(0, -4), ...asMapping(item) };
			nodes.push(...readObject(whole));
		}
		return { nodes };
	}
	return { nodes: readObject(object) };
}

function readObject(object: Record<string, unknown>): NodeReading[] {
	const core = object.apiVersion === undefined || object.apiVersion === "v1";
	return object.kind === "Node" && core ? [readNode(object)] : [];
}

function asMapping(value: unknown): Record<string, unknown> | undefined {
	return typeof value === "object" && value !== null && !Array.isArray(value)
		? (value as Record<string, unknown>)
		: undefined;
}

function show(value: unknown): string {
	if (Array.isArray(value)) return "a list";
	if (typeof value === "object") return "a mapping without one";
	const text = JSON.stringify(value) ?? String(value);
	return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
