// docs/COUNTERS.md: every drop reason and event, from the comments of their enums in
// bpf/lib/tables.h, so that the list that users read is the list that the programs count by.

const INTRODUCTION = `# What Fairway counts

Made from \`bpf/lib/tables.h\` by \`npm run generate\`.

## Drops

Each packet that Fairway ends has one reason. \`fairway status\` shows those that are not zero, as
\`drops\` in \`-o json\`.
`;

const EVENTS = `
## Events

Not losses: \`events\` in \`fairway status -o json\`.
`;

/** Rows of a Markdown table for one enum of the header; the first (NONE) and the count are left out. */
function rows(header: string, name: string, prefix: string): string {
	const body = new RegExp(`enum ${name} \\{(.*?)\\n\\};`, "s").exec(header)?.[1];
	if (body === undefined) throw new Error(`Cannot document enum ${name}: wanted it in tables.h`);
	const members = [...body.matchAll(/^\t(\w+) = \d+,\s*(?:\/\*\s*(.*?)\s*\*\/)?$/gm)];
	return members
		.filter(([, member]) => member !== `${prefix}NONE` && member !== `${prefix}COUNT`)
		.filter(([, member]) => !member?.endsWith("_COUNT"))
		.map(([, member = "", comment]) => {
			if (!comment) throw new Error(`Cannot document ${member}: wanted a comment in tables.h`);
			return `| \`${member.slice(prefix.length).toLowerCase()}\` | ${comment} |`;
		})
		.join("\n");
}

export function countersPage(header: string): string {
	const table = (name: string, prefix: string) =>
		`\n| name | what it is |\n| --- | --- |\n${rows(header, name, prefix)}\n`;
	return INTRODUCTION + table("drop_reason", "DROP_") + EVENTS + table("event_counter", "EVENT_");
}
