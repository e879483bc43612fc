/** The plugin's JSON reader (cni/json.c) against JSON.parse, under the sanitizers. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import t from "tap";

const root = fileURLToPath(new URL("../..", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "fairway-json-"));
t.teardown(() => rmSync(directory, { recursive: true }));
const reader = join(directory, "reader");
const sources = ["test/native/json_text.c", "cni/json.c", "cni/json_read.c", "cni/text.c"];
execFileSync(
	"gcc",
	[
		"-O1",
		"-g",
		"-D_GNU_SOURCE",
		"-fsanitize=address,undefined",
		"-fno-sanitize-recover=all",
	].concat(
		["-o", reader],
		sources.map((file) => join(root, file)),
	),
);

/** undefined: no JSON. */
function read(documents: readonly Uint8Array[]): unknown[] {
	const framed = documents.flatMap((document) => {
		const length = Buffer.alloc(4);
		length.writeUInt32LE(document.length);
		return [length, document];
	});
	const output = execFileSync(reader, { input: Buffer.concat(framed), maxBuffer: 1 << 28 });
	const lines = output.toString().trimEnd().split("\n");
	return lines.map((line) => (line === "-" ? undefined : JSON.parse(line)));
}

function parse(document: Uint8Array): unknown {
	try {
		return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(document));
	} catch {
		return undefined;
	}
}

const odd = Buffer.from('{}[]",:\\u\0\x01\x7f\x80\xc3\xed\xa0\xf4\xff 0-.eE+tfn\n', "latin1");

/** A document, some of whose bytes have changed. */
const mutilated = fc
	.tuple(
		fc.json({ maxDepth: 4 }),
		fc.array(fc.tuple(fc.nat(), fc.nat({ max: odd.length - 1 })), { maxLength: 3 }),
		fc.option(fc.nat()),
	)
	.map(([text, changes, cut]) => {
		const bytes = Buffer.from(text);
		for (const [at, k] of changes) if (bytes.length > 0) bytes[at % bytes.length] = odd[k]!;
		return cut === null ? bytes : bytes.subarray(0, cut % (bytes.length + 1));
	});

t.test("documents of all kinds, whole and mutilated", async (t) => {
	const documents = [
		...fc.sample(fc.json({ maxDepth: 5, stringUnit: "binary" }), 3000),
		...fc.sample(fc.json(), 1000).map((text) => JSON.stringify(JSON.parse(text), undefined, "\t ")),
	].map((text) => Buffer.from(text));
	documents.push(...fc.sample(mutilated, 6000));
	documents.push(...fc.sample(fc.uint8Array({ maxLength: 12 }), 2000).map((a) => Buffer.from(a)));
	const rest = ["-0", "01", "1.", ".5", "1e", "1E+2", "-", "nul", '"\\u12g4"', '"\\ud83d\\u00e9"'];
	rest.push('"\\udc00\\ud800"', '{"a":1,}', "[,]", "[1,]", '{"a"}', "{1:2}", "\ufeff1", "1 2", "");
	documents.push(...rest.map((text) => Buffer.from(text)));
	const found = read(documents);
	t.equal(found.length, documents.length);
	let valid = 0;
	documents.forEach((document, i) => {
		const wanted = parse(document);
		if (wanted !== undefined) valid++;
		// A lone surrogate cannot be written as UTF-8.
		const written = JSON.stringify(wanted)?.replace(/\\ud[89a-f]../g, "\ufffd");
		if (JSON.stringify(found[i]) !== written)
			t.fail(`${document} was read as ${JSON.stringify(found[i])}, expected ${written}`);
	});
	t.ok(valid > 4000 && valid < documents.length - 2000, `${valid} of ${documents.length} valid`);
});

t.test("a depth that no configuration has", async (t) => {
	const nested = (depth: number) => Buffer.from("[".repeat(depth) + "]".repeat(depth));
	const [deep, deeper] = read([nested(100), nested(101)]);
	t.not(deep, undefined);
	t.equal(deeper, undefined);
});
