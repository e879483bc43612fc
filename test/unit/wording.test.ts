/** The form of messages, over all of src and native. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import t from "tap";

const root = fileURLToPath(new URL("../../", import.meta.url));

function sources(folder: string, kinds: RegExp): { file: string; text: string }[] {
	return readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" })
		.filter((name) => kinds.test(name))
		.map((name) => ({
			file: `${folder}/${name}`,
			text: readFileSync(`${root}${folder}/${name}`, "utf8"),
		}));
}

/** "FILE: match" for each place. */
function places(found: RegExp): string[] {
	return [...sources("src", /\.ts$/), ...sources("native", /\.(cc|h|js)$/)].flatMap(
		({ file, text }) => [...text.matchAll(found)].map(([match]) => `${file}: ${match}`),
	);
}

t.test("errors say what was expected, and what was found", async (t) => {
	t.strictSame(places(/["'`][^"'`\n]*: wanted [^\n]*/g), []);
	t.strictSame(places(/expected success/g), []);
});

t.test("log messages are constant, so that lines can be grouped by them", async (t) => {
	// A call on something named log, whose message is a template or the message of an error.
	const call = /[lL]og\??\.(?:debug|info|warn|error|fatal)\((?:[^;]|\n)*?\);/g;
	const calls = places(call);
	t.ok(calls.length > 40, `${calls.length} calls`);
	t.strictSame(
		calls.filter((one) =>
			/,\s*(?:`|\(error as Error\)\.message|problem\.message|problem)[^,]*\)?,?\s*\);$/.test(one),
		),
		[],
	);
});
