// Generates docs/COUNTERS.md, every drop reason and event, from the comments of their enums in
// bpf/lib/tables.h, so that the documentation lists exactly what the programs count.

const INTRODUCTION = `# What Fairway counts

Generated from \`bpf/lib/tables.h\` by \`npm run generate\`.

## Drops

Each dropped packet has one reason. \`fairway status\` shows the counters that are not zero; in
\`-o json\` they are in \`drops\`.
`;

const EVENTS = `
## Events

Events are not losses. In \`fairway status -o json\` they are in \`events\`.
`;

/** Rows of a Markdown table for one enum of the header, without NONE and the count. */
function rows(header: string, name: string, prefix: string): string {
	const body = new RegExp(`enum ${name} \\{(.*?)\\n\\};`, "s").exec(header)?.[1];
	if (body === undefined) throw new Error(`Cannot document enum ${name}: not found in tables.h`);
	// clang-format breaks a long line after the equals sign, or within the comment.
	const members = [...body.matchAll(/^\t(\w+)\s*=\s*\d+,\s*?(?:\/\*\s*(.*?)\s*\*\/)?$/gms)];
	const named = [...body.matchAll(new RegExp(`\\b${prefix}\\w+(?=\\s*=)`, "g"))];
	if (members.length !== named.length)
		throw new Error(
			`Cannot document enum ${name}: expected ${named.length} members, read ${members.length}`,
		);
	return members
		.filter(([, member]) => member !== `${prefix}NONE` && member !== `${prefix}COUNT`)
		.filter(([, member]) => !member?.endsWith("_COUNT"))
		.map(([, member = "", comment]) => {
			if (!comment) throw new Error(`Cannot document ${member}: it has no comment in tables.h`);
			return `| \`${member.slice(prefix.length).toLowerCase()}\` | ${comment.replace(/\s+/g, " ")} |`;
		})
		.join("\n");
}

export function countersPage(header: string): string {
	const table = (name: string, prefix: string) =>
		`\n| name | meaning |\n| --- | --- |\n${rows(header, name, prefix)}\n`;
	return INTRODUCTION + table("drop_reason", "DROP_") + EVENTS + table("event_counter", "EVENT_");
}
