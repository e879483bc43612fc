// Runs all checks, one after another; each prints its own findings.
import { generateTables } from "./build.mjs";
import { checkImports } from "./imports.mjs";
import { Failure, filesUnder, run, say } from "./step.mjs";

const sourcesOfC = () => [
	...filesUnder("bpf", /\.[ch]$/),
	...filesUnder("cni", /\.[ch]$/),
	...filesUnder("native", /\.(cpp|cc|c|h|hpp)$/),
	...filesUnder("test", /\.[ch]$/),
	...filesUnder("bench", /\.[ch]$/),
];

const rules = [
	["types", () => run("node_modules/.bin/tsc", ["-p", "tsconfig.check.json"])],
	[
		"lint and format of TypeScript and JSON",
		() => run("node_modules/.bin/biome", ["check", "--error-on-warnings"]),
	],
	["format of C and C++", () => run("clang-format-19", ["--dry-run", "-Werror", ...sourcesOfC()])],
	["direction of imports", checkImports],
	["generated tables", () => generateTables({ check: true })],
];

/** Runs every check. @returns exit status: 1 if any failed */
export function check() {
	let broken = 0;
	for (const [name, rule] of rules) {
		say(`Checking ${name}`);
		try {
			rule();
		} catch (error) {
			if (!(error instanceof Failure)) throw error;
			broken++;
			say(error.message);
		}
	}
	say(broken === 0 ? "All checks passed" : `${broken} of ${rules.length} checks failed`);
	return broken === 0 ? 0 : 1;
}

export function format() {
	run("node_modules/.bin/biome", ["check", "--write"]);
	run("clang-format-19", ["-i", ...sourcesOfC()]);
	return 0;
}
