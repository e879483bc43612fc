/** Text tables for a terminal. Pure. */

export interface Column<R> {
	title: string;
	align?: "left" | "right";
	/** May be cut where the table is too wide. */
	flexible?: boolean;
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

export interface Group<R> {
	/** Stands in the line above its rows. */
	title?: string;
	rows: readonly R[];
}

export interface TableOptions {
	/** Columns of the terminal: flexible cells are cut until the table fits. Default: nothing is. */
	width?: number | undefined;
}

export function renderTable<R>(
	columns: readonly Column<R>[],
	groups: readonly Group<R>[],
	paint: ReturnType<typeof painters>,
	options: TableOptions = {},
): string {
	const rows = groups.flatMap((group) => group.rows);
	const widths = columns.map(({ title, cell }) =>
		Math.max(width(title), ...rows.map((row) => width(cell(row)))),
	);
	shrink(columns, widths, options.width);
	const rule = (left: string, middle: string, right: string, title?: string): string => {
		const line = `${left}${widths.map((w) => "─".repeat(w + 2)).join(middle)}${right}`;
		if (title === undefined) return paint.dim(line);
		const rest = line.slice(title.length + 4);
		return `${paint.dim(line.slice(0, 2))} ${paint.bold(title)} ${paint.dim(rest)}`;
	};
	const bar = paint.dim("│");
	const line = (cells: string[]): string => `${bar} ${cells.join(` ${bar} `)} ${bar}`;
	const lines = [
		rule("╭", "┬", "╮"),
		line(columns.map(({ title, align }, i) => paint.bold(fit(title, widths[i] ?? 0, align)))),
	];
	for (const { title, rows } of groups) {
		lines.push(rule("├", "┼", "┤", title));
		for (const row of rows)
			lines.push(
				line(
					columns.map(({ cell, align, paint: colour }, i) => {
						const text = fit(cell(row), widths[i] ?? 0, align);
						return colour === undefined ? text : colour(text, row);
					}),
				),
			);
	}
	lines.push(rule("╰", "┴", "╯"));
	return lines.join("\n");
}

/** Less is no help: a cell of this much and an ellipsis says nothing. */
const SHORTEST = 12;

function shrink<R>(
	columns: readonly Column<R>[],
	widths: number[],
	available: number | undefined,
): void {
	if (available === undefined) return;
	const total = widths.reduce((sum, w) => sum + w + 3, 1);
	for (const [i, { flexible }] of columns.entries()) {
		const own = widths[i] ?? 0;
		if (flexible === true && total > available)
			widths[i] = Math.max(Math.min(own, SHORTEST), own - (total - available));
	}
}

/** Code points: nothing that the lab prints is wider than one column. */
function width(text: string): number {
	return [...text].length;
}

function fit(text: string, columns: number, align: "left" | "right" = "left"): string {
	const cut = width(text) > columns ? `${[...text].slice(0, columns - 1).join("")}…` : text;
	const blanks = " ".repeat(columns - width(cut));
	return align === "left" ? cut + blanks : blanks + cut;
}
