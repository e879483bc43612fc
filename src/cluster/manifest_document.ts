/**
 * Reads the objects in one document of a manifest.
 *
 *  1. text → values: JSON, otherwise YAML
 *  2. value → objects (a List has several)
 *  3. object → by its kind (kinds.ts); other kinds are ignored
 */
import { ALIASES_MAX, firstLine, parseYaml, positionOf } from "../files/yaml.js";
import { kindOf, type Reading, readObject } from "./kinds.js";

/** `line` and `column` count from 1, from the beginning of the document. */
export type DocumentResult =
	| { readings: Reading[] }
	/** `foreign`: it is something else than a Kubernetes object, a configuration file for example. */
	| { line: number; column: number; message: string; foreign?: boolean };

/** Reads a whole document: some 1 ms for each KB of YAML. */
export function readDocument(text: string): DocumentResult {
	const json = readJson(text);
	if (json !== undefined) return json;
	const { documents, lines, faults } = parseYaml(text);
	const [fault] = faults;
	if (fault !== undefined)
		return { ...positionOf(lines, fault.offset), message: `expected YAML: ${fault.message}` };
	const readings: Reading[] = [];
	for (const document of documents) {
		const { line, column } = positionOf(lines, document.contents?.range?.[0] ?? 0);
		let value: unknown;
		try {
			value = document.toJS({ maxAliasCount: ALIASES_MAX });
		} catch (error) {
			return { line, column, message: `expected YAML: ${firstLine(error)}` };
		}
		const result = readObjects(value, line, column);
		if ("message" in result) return result;
		readings.push(...result.readings);
	}
	return { readings };
}

/** Parses JSON as JSON, which is a hundred times faster than as YAML. Undefined: not a JSON object. */
export function readJson(text: string): DocumentResult | undefined {
	if (!/^\s*\{/.test(text)) return undefined;
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return undefined;
	}
	return readObjects(value, 1, 1);
}

function readObjects(value: unknown, line: number, column: number): DocumentResult {
	// Nothing, or only comments, between two separators.
	if (value === null || value === undefined) return { readings: [] };
	const object = asMapping(value);
	const kind = object?.kind;
	if (object === undefined || typeof kind !== "string") {
		const message = `expected a Kubernetes object with a kind, got ${show(value)}`;
		return { line, column, message, foreign: isForeign(object) };
	}
	if (kind.endsWith("List") && Array.isArray(object.items)) {
		const readings: Reading[] = [];
		for (const item of object.items) {
			// The items of a NodeList need not repeat their kind.
			const whole = { apiVersion: object.apiVersion, kind: kind.slice(0, -4), ...asMapping(item) };
			readings.push(...readKnown(whole));
		}
		return { readings };
	}
	return { readings: readKnown(object) };
}

function isForeign(object: Record<string, unknown> | undefined): boolean {
	return object !== undefined && !("kind" in object || "apiVersion" in object);
}

function readKnown(object: Record<string, unknown>): Reading[] {
	const kind = kindOf(object);
	return kind === undefined ? [] : [readObject(kind, object)];
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
