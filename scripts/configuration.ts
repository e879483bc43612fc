// docs/CONFIGURATION.md: every key of the configuration file, from the schema that the agent checks
// it against.
import { configSchema } from "../src/config/schema.js";

const INTRODUCTION = `# Configuration

Generated from \`src/config/schema.ts\` by \`npm run generate\`.

The agent reads one YAML file (\`fairway agent --config FILE\`). Every key is optional; an empty file
means the defaults. Names of values are accepted in any case. The file is watched: a change applies
within two seconds, also to running connections, and without a restart. An unknown key, an invalid value or
an invalid combination is refused with file, line, column and the expected value; the agent
then does not start, or keeps the previous configuration. \`fairway config validate FILE\` checks a file
beforehand, \`fairway config schema\` prints the JSON Schema for editors.

\`\`\`yaml
trafficEncapMode: hybrid
hybrid:
  tryDirectCIDRs: [192.168.0.0/16]
log:
  level: warn
\`\`\`
`;

/** What is used of JSON Schema. */
interface Schema {
	description?: string;
	type?: string;
	enum?: readonly string[];
	const?: unknown;
	minimum?: number;
	maximum?: number;
	default?: unknown;
	items?: Schema;
	properties?: Readonly<Record<string, Schema>>;
}

export function configurationPage(root: Schema = configSchema()): string {
	const keys = Object.entries(root.properties ?? {});
	const plain = keys.filter(([, { properties }]) => properties === undefined);
	const sections = keys.filter(([, { properties }]) => properties !== undefined);
	return [
		INTRODUCTION,
		`\n## Top level\n\n${table(plain)}`,
		...sections.map(([name, schema]) => section(name, schema)),
	].join("");
}

/** Sections within it follow it. */
function section(path: string, { description, properties = {} }: Schema): string {
	if (!description) throw new Error(`Cannot document ${path}: it has no description in the schema`);
	const keys = Object.entries(properties).map(
		([key, schema]) => [`${path}.${key}`, schema] as const,
	);
	const plain = keys.filter(([, inner]) => inner.properties === undefined);
	const inner = keys.filter(([, inner]) => inner.properties !== undefined);
	return [
		`\n## ${path}\n\n${description}\n`,
		plain.length === 0 ? "" : `\n${table(plain)}`,
		...inner.map(([key, schema]) => section(key, schema)),
	].join("");
}

function table(keys: readonly (readonly [string, Schema])[]): string {
	const rows = keys.map(([key, schema]) => {
		if (!schema.description)
			throw new Error(`Cannot document ${key}: it has no description in the schema`);
		const cells = [`\`${key}\``, values(schema), shown(schema.default), schema.description];
		return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
	});
	return `| key | values | default | meaning |\n| --- | --- | --- | --- |\n${rows.join("")}`;
}

function values(schema: Schema): string {
	if (schema.enum !== undefined) return schema.enum.map((value) => `\`${value}\``).join(", ");
	if (schema.const !== undefined) return `\`${String(schema.const)}\``;
	if (schema.type === "integer") return `${schema.minimum} to ${schema.maximum}`;
	if (schema.type === "boolean") return "`true`, `false`";
	if (schema.type !== "array") return schema.type ?? "";
	const of = schema.items?.description;
	if (!of) throw new Error("Cannot document a list: its items have no description in the schema");
	return `list, each ${of}`;
}

function shown(value: unknown): string {
	if (Array.isArray(value)) return value.length === 0 ? "none" : value.join(", ");
	return value === "" ? "none" : `\`${String(value)}\``;
}
