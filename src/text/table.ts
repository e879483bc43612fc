/**
 * Text tables: the plain ones of the commands and the framed ones of the lab. Pure.
 *
 *  1. cells: the text of each row and column
 *  2. widths: as wide as needed; flexible columns are cut until the table fits
 *  3. lines
 */

export interface Column<Row> {
	heading: string;
	/** Default left. */
	align?: "left" | "right";
	/** Cut with an ellipsis where the table is too wide, but never below this. */
	shortest?: number;
	cell: (row: Row) => string | number;
	/** Colours the cell after it has been padded; framed tables only. */
	paint?: (text: string, row: Row) => string;
}

export interface TableOptions {
	/**
	 * Columns of text that there are. The last column with `shortest` is cut first. Undefined: nothing
	 * is cut.
	 */
	width?: number | undefined;
}

/** Columns under their headings. */
export function table<Row>(
	columns: readonly Column<Row>[],
	rows: readonly Row[],
	options: TableOptions = {},
): string {
	const widths = widthsOf(columns, rows, 2, options.width);
	const line = (cells: readonly string[]) =>
		`${columns
			.map(({ align }, i) => fit(cells[i] ?? "", widths[i] ?? 0, align))
			.join("  ")
			.trimEnd()}\n`;
	return [
		line(columns.map(({ heading }) => heading)),
		...rows.map((row) => line(columns.map(({ cell }) => String(cell(row))))),
	].join("");
}

export interface Group<Row> {
	/** Stands in the rule above its rows. */
	title?: string;
	rows: readonly Row[];
}

export type Painter = (text: string) => string;
export type Painters = ReturnType<typeof painters>;

/** Colours for a terminal, or the bare text. */
export function painters(colours: boolean) {
	const sgr =
		(code: string): Painter =>
		(text) =>
			colours ? `\u001b[${code}m${text}\u001b[0m` : text;
	return {
		bold: sgr("1"),
		dim: sgr("2"),
		red: sgr("31"),
		green: sgr("32"),
		yellow: sgr("33"),
		blue: sgr("36"),
	};
}

/** A frame around the columns and a rule above each group; without a line end. */
export function framedTable<Row>(
	columns: readonly Column<Row>[],
	groups: readonly Group<Row>[],
	paint: Painters,
	options: TableOptions = {},
): string {
	const rows = groups.flatMap((group) => group.rows);
	const widths = widthsOf(
		columns,
		rows,
		3,
		options.width === undefined ? undefined : options.width - 4,
	);
	const rule = (left: string, middle: string, right: string, title?: string): string => {
		const line = `${left}${widths.map((width) => "─".repeat(width + 2)).join(middle)}${right}`;
		if (title === undefined) return paint.dim(line);
		const rest = line.slice(title.length + 4);
		return `${paint.dim(line.slice(0, 2))} ${paint.bold(title)} ${paint.dim(rest)}`;
	};
	const bar = paint.dim("│");
	const line = (cells: string[]): string => `${bar} ${cells.join(` ${bar} `)} ${bar}`;
	const lines = [
		rule("╭", "┬", "╮"),
		line(columns.map(({ heading, align }, i) => paint.bold(fit(heading, widths[i] ?? 0, align)))),
	];
	for (const { title, rows } of groups) {
		lines.push(rule("├", "┼", "┤", title));
		for (const row of rows)
			lines.push(
				line(
					columns.map(({ cell, align, paint: colour }, i) => {
						const text = fit(String(cell(row)), widths[i] ?? 0, align);
						return colour === undefined ? text : colour(text, row);
					}),
				),
			);
	}
	lines.push(rule("╰", "┴", "╯"));
	return lines.join("\n");
}

/** Names on the left, values on the right; a value with several lines keeps its column. */
export function facts(entries: readonly (readonly [string, string | readonly string[]])[]): string {
	const width = Math.max(0, ...entries.map(([name]) => name.length));
	return entries
		.flatMap(([name, value]) => {
			const lines = typeof value === "string" ? [value] : value;
			return lines.map((line, i) => `${(i === 0 ? name : "").padEnd(width)}  ${line}`.trimEnd());
		})
		.map((line) => `${line}\n`)
		.join("");
}

/** Breaks a text at blanks into lines of at most `width` where its words allow that. */
export function wrap(text: string, width: number): string[] {
	const lines: string[] = [];
	for (const word of text.split(" ")) {
		const last = lines.at(-1);
		if (last !== undefined && last.length + 1 + word.length <= width)
			lines[lines.length - 1] = `${last} ${word}`;
		else lines.push(word);
	}
	return lines;
}

/** @param gap columns of text between two cells */
function widthsOf<Row>(
	columns: readonly Column<Row>[],
	rows: readonly Row[],
	gap: number,
	available: number | undefined,
): number[] {
	const widths = columns.map(({ heading, cell }) =>
		rows.reduce((most, row) => Math.max(most, length(String(cell(row)))), length(heading)),
	);
	if (available === undefined) return widths;
	let excess = widths.reduce((sum, width) => sum + width + gap, -gap) - available;
	for (let i = columns.length - 1; i >= 0 && excess > 0; i--) {
		const { shortest } = columns[i] as Column<Row>;
		const width = widths[i] ?? 0;
		if (shortest === undefined || width <= shortest) continue;
		const cut = Math.min(excess, width - shortest);
		widths[i] = width - cut;
		excess -= cut;
	}
	return widths;
}

/** In code points: nothing that is printed here is wider than one column each. */
function length(text: string): number {
	return [...text].length;
}

function fit(text: string, columns: number, align: "left" | "right" = "left"): string {
	const cut = length(text) > columns ? `${[...text].slice(0, columns - 1).join("")}…` : text;
	const blanks = " ".repeat(columns - length(cut));
	return align === "left" ? cut + blanks : blanks + cut;
}
