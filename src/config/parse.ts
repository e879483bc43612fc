/**
 * Parses a configuration file into a Config, or returns every error with its position.
 *
 *  1. text: UTF-8, not too long
 *  2. YAML: one document, a mapping, no duplicate keys
 *  3. each key against the schema
 *  4. combinations of keys
 */
import { readFile } from "node:fs/promises";
import { type Alias, type Document, isAlias, isMap, isScalar, isSeq, type Node } from "yaml";
import type { z } from "zod";
import {
	ALIASES_MAX,
	fileError,
	firstLine,
	parseYaml,
	positionOf,
	type YamlText,
} from "../files/yaml.js";
import type { Config, ConfigError, ConfigResult } from "./config.js";
import type { Environment } from "./proxy_rule.js";
import { refusedCombinations, schema } from "./schema.js";
import { nearest } from "./spelling.js";

const BYTES_MAX = 1 << 20;
/** More are only counted. */
const ERRORS_MOST = 20;

type Path = readonly PropertyKey[];

/** @param environment may allow combinations that are refused otherwise (proxy_rule.ts) */
export function parseConfig(
	text: string,
	file: string,
	environment: Environment = process.env,
): ConfigResult {
	const yaml = parseYaml(text);
	const errors: ConfigError[] = [];
	const report = (offset: number, message: string) => {
		errors.push({ file, ...positionOf(yaml.lines, offset), message });
	};
	const failed = () => {
		errors.sort((a, b) => a.line - b.line || a.column - b.column);
		return { errors: shortened(errors) };
	};

	const document = readDocument(yaml, report);
	if (errors.length > 0) return failed();
	let raw: unknown;
	try {
		raw = document?.toJS({ maxAliasCount: ALIASES_MAX }) ?? {};
	} catch (error) {
		report(firstAlias(document), `Cannot read the configuration: ${firstLine(error)}`);
		return failed();
	}

	const checked = schema.safeParse(raw);
	const seen = new Set<string>();
	for (const issue of checked.error?.issues ?? [])
		for (const { path, message, atKey } of faults(issue, raw)) {
			// A value that fails two checks is one error.
			const name = path.join(".");
			if (seen.has(name)) continue;
			seen.add(name);
			report(offsetOf(document, path, atKey), message);
		}
	for (const { path, message } of refusedCombinations(usable(raw), environment))
		report(offsetOf(document, path, false), message);
	if (errors.length > 0 || !checked.success) return failed();
	return { config: checked.data as Config };
}

/** A file that is something else has an error in every line. */
function shortened(errors: ConfigError[]): ConfigError[] {
	const further = errors.length - ERRORS_MOST;
	if (further < 1) return errors;
	const next = errors[ERRORS_MOST]!;
	const message = `Cannot use the configuration: ${further} further errors from here on`;
	return [...errors.slice(0, ERRORS_MOST), { ...next, message }];
}

/** Reads and parses a file; an unreadable file is an error at its first position. */
export async function readConfig(file: string): Promise<ConfigResult> {
	let bytes: Buffer;
	try {
		bytes = await readFile(file);
	} catch (error) {
		return unreadableConfig(file, error);
	}
	return parseConfigBytes(bytes, file);
}

/** The result for a file that cannot be read. */
export function unreadableConfig(file: string, error: unknown): ConfigResult {
	return failure(file, `Cannot read the configuration: ${fileError(error)}`);
}

export function parseConfigBytes(bytes: Uint8Array, file: string): ConfigResult {
	if (bytes.length > BYTES_MAX)
		return failure(
			file,
			`Cannot read the configuration: expected at most ${BYTES_MAX} bytes, got ${bytes.length}`,
		);
	try {
		return parseConfig(new TextDecoder("utf-8", { fatal: true }).decode(bytes), file);
	} catch (error) {
		if (!(error instanceof TypeError)) throw error;
		return failure(file, "Cannot read the configuration: expected UTF-8 text, got other bytes");
	}
}

function failure(file: string, message: string): ConfigResult {
	return { errors: [{ file, line: 1, column: 1, whole: true, message }] };
}

/** The only document, if it has the shape of a configuration. */
function readDocument(
	{ documents, faults }: YamlText,
	report: (offset: number, message: string) => void,
): Document.Parsed | undefined {
	for (const { offset, message } of faults)
		report(offset, `Cannot read the configuration as YAML: ${message}`);
	const [document, second] = documents;
	if (second !== undefined)
		report(
			second.range[0],
			`Cannot read the configuration: expected one YAML document, got ${documents.length}`,
		);
	const root = document?.contents;
	if (isMap(root)) {
		for (const { key } of root.items)
			if (!isScalar(key))
				report(
					(key as Node | null)?.range?.[0] ?? 0,
					"Cannot read the configuration: expected a plain key, got a list or mapping as key",
				);
	} else if (root && !(isScalar(root) && root.value === null)) {
		const got = isSeq(root) ? "a list" : describe(isScalar(root) ? root.value : String(root));
		report(
			root.range?.[0] ?? 0,
			`Cannot read the configuration: expected a mapping of keys to values, got ${got}`,
		);
	}
	return document;
}

interface Fault {
	path: Path;
	message: string;
	/** True: points at the key; false: at its value. */
	atKey: boolean;
}

function faults(issue: z.core.$ZodIssue, raw: unknown): Fault[] {
	if (issue.code === "unrecognized_keys") {
		return issue.keys.map((key) => {
			const known = keysAt(issue.path);
			const guess = nearest(key, known);
			const hint = guess ? `did you mean ${guess}?` : `expected one of ${known.join(", ")}`;
			const path = [...issue.path, key];
			return { path, atKey: true, message: `Cannot use ${name(path)}: unknown key, ${hint}` };
		});
	}
	const got = describe(valueAt(raw, issue.path));
	const message = `Cannot use ${name(issue.path)}: expected ${issue.message}, got ${got}`;
	return [{ path: issue.path, atKey: false, message }];
}

/** The keys of a section in the schema. */
function keysAt(path: Path): string[] {
	let shape: Record<string, unknown> = schema.shape;
	for (const key of path) shape = shapeOf(shape[String(key)]) ?? {};
	return Object.keys(shape);
}

/** The shape inside the wrappers of a section (default, preprocess). */
function shapeOf(type: unknown): Record<string, unknown> | undefined {
	const inner = type as {
		shape?: Record<string, unknown>;
		def?: { innerType?: unknown; out?: unknown };
	};
	if (inner?.shape !== undefined) return inner.shape;
	const next = inner?.def?.innerType ?? inner?.def?.out;
	return next === undefined ? undefined : shapeOf(next);
}

/** Every valid top-level key, so that one error does not hide another. */
function usable(raw: unknown): Partial<Config> {
	if (typeof raw !== "object" || raw === null) return {};
	const given = raw as Record<string, unknown>;
	const parts = Object.entries(schema.shape).flatMap(([key, type]) => {
		const result = type.safeParse(Object.hasOwn(given, key) ? given[key] : undefined);
		return result.success ? [[key, result.data]] : [];
	});
	return Object.fromEntries(parts) as Partial<Config>;
}

function valueAt(raw: unknown, path: Path): unknown {
	let value = raw;
	for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
	return value;
}

function offsetOf(document: Document.Parsed | undefined, path: Path, atKey: boolean): number {
	let node = resolve(document, document?.contents);
	let offset = node?.range?.[0] ?? 0;
	for (const [depth, step] of path.entries()) {
		if (isMap(node)) {
			const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step);
			if (pair === undefined) return offset;
			const key = pair.key as Node;
			const value = pair.value as Node | null;
			const last = depth === path.length - 1;
			// A key without a value: the value has no position, so the key is shown.
			const empty = value === null || (isScalar(value) && value.source === "");
			offset = (last && atKey) || empty ? (key.range?.[0] ?? offset) : (value.range?.[0] ?? offset);
			node = resolve(document, value);
		} else if (isSeq(node)) {
			const item = node.items[Number(step)] as Node | undefined;
			offset = item?.range?.[0] ?? offset;
			node = resolve(document, item);
		} else return offset;
	}
	return offset;
}

function resolve(document: Document.Parsed | undefined, node: unknown): Node | undefined {
	if (document !== undefined && isAlias(node)) return (node as Alias).resolve(document);
	return (node as Node | null) ?? undefined;
}

function firstAlias(document: Document.Parsed | undefined): number {
	let found = 0;
	const search = (node: unknown): boolean => {
		if (isAlias(node)) {
			found = node.range?.[0] ?? 0;
			return true;
		}
		if (isMap(node)) return node.items.some(({ key, value }) => search(key) || search(value));
		return isSeq(node) && node.items.some(search);
	};
	search(document?.contents);
	return found;
}

function name(path: Path): string {
	if (path.length === 0) return "the configuration";
	return path
		.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i === 0 ? "" : "."}${String(key)}`))
		.join("");
}

/** A short description of a value, at most one line. */
function describe(value: unknown): string {
	if (value === undefined || value === null) return "nothing";
	if (Array.isArray(value)) return "a list";
	if (value instanceof Date) return value.toISOString();
	if (typeof value === "object") return "a mapping";
	const shown = typeof value === "string" ? JSON.stringify(value) : String(value);
	return shown.length > 80 ? `${shown.slice(0, 77)}...` : shown;
}
