// Generates docs/CLOUDS.md, known causes of broken paths by cloud, from src/probe/causes.ts, so that
// the page and `fairway check` agree.
import { CAUSES, type Place } from "../src/probe/causes.js";

const INTRODUCTION = `# What breaks paths, and where to change it

Generated from \`src/probe/causes.ts\` by \`npm run generate\`.

Networks that are configured for Nodes often drop packets with Pod addresses. \`fairway check\` tests
which paths to each peer work, and shows the entries of this list that match its findings. In commands,
replace the words in capitals.
`;

export function cloudsPage(): string {
	const names = new Set(CAUSES.flatMap(({ places }) => places.map(({ name }) => name)));
	// Generic entries come last.
	const last = ["elsewhere", "everywhere"];
	const ordered = [...names].filter((name) => !last.includes(name)).concat(last);
	const sections = ordered.map((name) => {
		// An entry that two causes share appears once.
		const said = new Set<Place>();
		const parts = CAUSES.flatMap(({ pattern, places }) => {
			const own = places.filter((place) => place.name === name && !said.has(place));
			for (const place of own) said.add(place);
			return own.length === 0 ? [] : [`\n**${pattern}**\n`, ...own.map(placeText)];
		});
		return `\n## ${name.replace(/^./, (first) => first.toUpperCase())}\n${parts.join("")}`;
	});
	return INTRODUCTION + sections.join("");
}

function placeText({ what, change }: Place): string {
	const lines: string[] = [];
	let inCode = false;
	for (const step of change) {
		const command = step.startsWith("$ ");
		if (command !== inCode) lines.push(command ? "```" : "```\n");
		lines.push(command ? step.slice(2) : step);
		if (!command) lines.push("");
		inCode = command;
	}
	if (inCode) lines.push("```");
	return `\n${what}\n\n${lines.join("\n").trimEnd()}\n`;
}
