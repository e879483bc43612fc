/** Parses arbitrary YAML text into documents with positions. Shared with the manifests. */
import { Composer, type CST, type Document, LineCounter, Parser } from "yaml";

/**
 * Deeper nesting is refused before the tree is built, because building recurses, and near the end of the
 * stack V8's regular expression compiler aborts the process instead of throwing.
 */
const DEPTH_MAX = 100;

/** Aliases that one document may resolve: more is an attack on memory. */
export const ALIASES_MAX = 100;

/** Something that makes the text no YAML; `offset` counts UTF-16 units. */
export interface YamlFault {
	offset: number;
	message: string;
}

export interface YamlText {
	documents: Document.Parsed[];
	lines: LineCounter;
	/** Errors in the text as a whole and in its documents; empty: the documents can be used. */
	faults: YamlFault[];
}

class DepthError extends Error {}

class BoundedParser extends Parser {
	override *next(source: string): Generator<CST.Token, void> {
		yield* super.next(source);
		if (this.stack.length > DEPTH_MAX)
			throw new DepthError(`expected at most ${DEPTH_MAX} levels of nesting, got more`);
	}
}

export function parseYaml(text: string): YamlText {
	const lines = new LineCounter();
	const control = findControl(text);
	if (control >= 0) {
		lines.addNewLine(0);
		for (let at = text.indexOf("\n"); at >= 0 && at < control; at = text.indexOf("\n", at + 1))
			lines.addNewLine(at + 1);
		const code = text.charCodeAt(control).toString(16).padStart(2, "0");
		const message = `expected text, got the control character 0x${code}`;
		return { documents: [], lines, faults: [{ offset: control, message }] };
	}
	const parser = new BoundedParser(lines.addNewLine);
	try {
		const composer = new Composer({ prettyErrors: false, logLevel: "error" });
		const documents = [...composer.compose(parser.parse(text))] as Document.Parsed[];
		const faults = documents.flatMap(({ errors, warnings }) =>
			[...errors, ...warnings].map((error) => ({
				offset: error.pos[0],
				message: firstLine(error),
			})),
		);
		return { documents, lines, faults };
	} catch (error) {
		if (!(error instanceof DepthError || error instanceof RangeError)) throw error;
		const message = error instanceof DepthError ? error.message : "it is nested too deeply";
		return { documents: [], lines, faults: [{ offset: parser.offset, message }] };
	}
}

/** Counted from 1. */
export function positionOf(lines: LineCounter, offset: number): { line: number; column: number } {
	const { line, col } = lines.linePos(offset);
	return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

export function firstLine(error: unknown): string {
	const message = error instanceof Error ? error.message : String(error);
	return message.split("\n", 1)[0] ?? message;
}

/** What the kernel says of a file whose name stands beside it: Node.js names it again, with the system call. */
export function fileError(error: unknown): string {
	return firstLine(error).replace(/, (?:[a-z]+)(?: '.*')?$/, "");
}

/** The first character that no text file has, or -1. */
function findControl(text: string): number {
	// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
	return text.search(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/);
}
