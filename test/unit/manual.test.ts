/** The manual page says what the command line has. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import t from "tap";
import { manualPage } from "../../scripts/man.js";
import { LAB_USAGE } from "../../src/cli/lab_usage.js";
import { commands } from "../../src/cli/main.js";
import { version } from "../../src/text/version.js";

const page = readFileSync("man/fairway.8", "utf8");
/** Without the marks of roff. */
const words = page
	.replace(/\\f[BRI]/g, "")
	.replaceAll("\\-", "-")
	.replaceAll("\\e", "\\");

t.test("it is what `npm run generate` writes", async (t) => {
	t.equal(page, manualPage(version()));
});

t.test("it has every command, argument and option", async (t) => {
	const visit = (command: Command, parents: string[]): void => {
		const names = [...parents, command.name()];
		for (const inner of command.commands) visit(inner, names);
		if (command.commands.length > 0) return;
		t.match(words, `.SS ${names.join(" ")}`);
		if (command.name() === "lab") return;
		for (const { long } of command.options) t.match(words, `${long}`);
		for (const { description } of command.registeredArguments)
			t.match(words, description.slice(1).replaceAll("`", ""));
	};
	visit(
		commands(() => undefined),
		[],
	);
	for (const line of LAB_USAGE.split("\n").filter((one) => one !== "")) t.match(words, line);
});

t.test("every line is text or a request that there is", async (t) => {
	const requests = new Set(["TH", "SH", "SS", "PP", "TP", "B", "I", "BR", "br", "nf", "fi", '\\"']);
	for (const line of page.split("\n")) {
		const request = /^\.(\S+)/.exec(line)?.[1];
		if (request !== undefined) t.ok(requests.has(request), line);
		t.notMatch(line, /^'/);
	}
});
