/** Text tables: columns under their headings, as wide as they need to be. */

export interface Column<Row> {
	heading: string;
	/** Default left. */
	align?: "left" | "right";
	cell: (row: Row) => string | number;
}

export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
	const cells = rows.map((row) => columns.map((column) => String(column.cell(row))));
	const lines = [columns.map((column) => column.heading), ...cells];
	const widths = columns.map((_, i) => Math.max(...lines.map((line) => (line[i] ?? "").length)));
	return lines
		.map((line) =>
			line
				.map((cell, i) =>
					columns[i]?.align === "right"
						? cell.padStart(widths[i] ?? 0)
						: cell.padEnd(widths[i] ?? 0),
				)
				.join("  ")
				.trimEnd(),
		)
		.map((line) => `${line}\n`)
		.join("");
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

/** "1.5 MiB" */
export function bytes(count: number): string {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let value = count;
	let unit = 0;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit++;
	}
	return unit === 0 ? `${count} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** "2d 3h", "3h 4m", "4m 5s", "5s" */
export function duration(seconds: number): string {
	const parts: [number, string][] = [
		[Math.floor(seconds / 86400), "d"],
		[Math.floor(seconds / 3600) % 24, "h"],
		[Math.floor(seconds / 60) % 60, "m"],
		[Math.floor(seconds) % 60, "s"],
	];
	const first = parts.findIndex(([value]) => value > 0);
	if (first === -1) {
		return "0s";
	}
	return parts
		.slice(first, first + 2)
		.map(([value, unit]) => `${value}${unit}`)
		.join(" ");
}

/** "0.21 ms", "12 ms", "-" for null */
export function milliseconds(time: number | null): string {
	if (time === null) return "-";
	return `${time < 10 ? time.toFixed(2) : Math.round(time)} ms`;
}

/** "0%", "2%", "0.3%" of a share from 0 to 1, "-" for null */
export function percent(share: number | null): string {
	if (share === null) return "-";
	const value = share * 100;
	return `${value > 0 && value < 1 ? Math.max(0.1, value).toFixed(1) : Math.round(value)}%`;
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
