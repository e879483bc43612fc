/** `fairway config validate` and `fairway config schema` */
import { formatConfigError } from "../config/config.js";
import { readConfig } from "../config/parse.js";
import { proxyWarnings } from "../config/proxy_rule.js";
import { configSchema } from "../config/schema.js";
import { EXIT_DONE, EXIT_USAGE } from "./exit.js";
import { json } from "./output.js";

/** With `-o json`: `{valid: true, config}` with all defaults, or `{valid: false, errors}`. */
export async function validateCommand(
	file: string,
	options: { output: "text" | "json" },
): Promise<number> {
	const result = await readConfig(file);
	if ("errors" in result) {
		process.stderr.write(result.errors.map((error) => `${formatConfigError(error)}\n`).join(""));
		if (options.output === "json") {
			process.stdout.write(json({ valid: false, errors: result.errors }));
		}
		return EXIT_USAGE;
	}
	for (const warning of proxyWarnings(result.config, process.env))
		process.stderr.write(`${file}: warning: ${warning}\n`);
	process.stdout.write(
		options.output === "json" ? json({ valid: true, config: result.config }) : `${file}: valid\n`,
	);
	return EXIT_DONE;
}

export async function schemaCommand(): Promise<number> {
	process.stdout.write(json(configSchema()));
	return EXIT_DONE;
}
