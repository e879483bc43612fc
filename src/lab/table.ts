/** Text tables for a terminal. Pure. */

export interface Column<R> {
	title: string;
	align?: "left" | "right";
	/** Text of a row's cell. */
	cell(row: R): string;
	/** Colours the cell after it has been padded. */
	paint?(text: string, row: R): string;
}

export type Painter = (text: string) => string;

/** Colours where they are wanted, the bare text where not. */
export function painters(wanted: boolean) {
	const sgr =
		(code: string): Painter =>
		(text) =>
			wanted ? `\u001b[${code}m${text}\u001b[0m` : text;
	return {
		bold: sgr("1"),
		dim: sgr("2"),
		red: sgr("31"),
		green: sgr("32"),
		yellow: sgr("33"),
		blue: sgr("36"),
	};
}

/** @param groups rows with a thin line between each group and the next. */
export function renderTable<R>(
	columns: readonly Column<R>[],
	groups: readonly (readonly R[])[],
	paint: ReturnType<typeof painters>,
): string {
	const rows = groups.flat();
	const widths = columns.map(({ title, cell }) =>
		Math.max(width(title), ...rows.map((row) => width(cell(row)))),
	);
	const rule = (left: string, middle: string, right: string): string =>
		paint.dim(`${left}${widths.map((w) => "─".repeat(w + 2)).join(middle)}${right}`);
	const bar = paint.dim("│");
	const line = (cells: string[]): string => `${bar} ${cells.join(` ${bar} `)} ${bar}`;
	const lines = [
		rule("╭", "┬", "╮"),
		line(columns.map(({ title, align }, i) => paint.bold(pad(title, widths[i] ?? 0, align)))),
	];
	for (const group of groups) {
		lines.push(rule("├", "┼", "┤"));
		for (const row of group)
			lines.push(
				line(
					columns.map(({ cell, align, paint: colour }, i) => {
						const text = pad(cell(row), widths[i] ?? 0, align);
						return colour === undefined ? text : colour(text, row);
					}),
				),
			);
	}
	lines.push(rule("╰", "┴", "╯"));
	return lines.join("\n");
}

/** Code points: nothing that the lab prints is wider than one column. */
function width(text: string): number {
	return [...text].length;
}

function pad(text: string, columns: number, align: "left" | "right" = "left"): string {
	const blanks = " ".repeat(Math.max(0, columns - width(text)));
	return align === "left" ? text + blanks : blanks + text;
}
