/** Bars with their spread as SVG, readable on light and dark backgrounds. Pure. */
import type { Spread } from "./statistics.js";

export interface Bar {
	name: string;
	value: Spread;
	/** True for Fairway's bars. */
	ours: boolean;
}

export interface Panel {
	title: string;
	bars: Bar[];
	/** Decimals of the values beside the bars. */
	digits: number;
}

const WIDTH = 760;
const NAMES = 190;
const BAR = 20;
const GAP = 6;
const TITLE = 34;
const OURS = "#2f81c5";
const OTHERS = "#9aa4ad";

export function plot(panels: readonly Panel[]): string {
	let y = 0;
	const parts: string[] = [];
	for (const { title, bars, digits } of panels) {
		const most = Math.max(...bars.map(({ value }) => value.greatest));
		const scale = (WIDTH - NAMES - 90) / most;
		parts.push(text(0, y + 22, title, "font-weight='600'"));
		y += TITLE;
		for (const { name, value, ours } of bars) {
			const middle = y + BAR / 2;
			const [left, right] = [value.least, value.greatest].map((v) => round(NAMES + v * scale));
			const fill = ours ? OURS : OTHERS;
			parts.push(
				text(NAMES - 8, middle + 4, name, "text-anchor='end'"),
				`<rect x='${NAMES}' y='${y}' width='${round(value.median * scale)}' height='${BAR}' rx='2' fill='${fill}'/>`,
				`<path d='M${left} ${middle}H${right}' stroke='currentColor' stroke-opacity='0.7'/>`,
				text(round(right! + 8), middle + 4, value.median.toFixed(digits)),
			);
			y += BAR + GAP;
		}
		y += 14;
	}
	// Without a page that sets `color`, currentColor is black; on a dark background it is set here.
	const style =
		"svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}text{fill:currentColor;font:13px system-ui,sans-serif}";
	return `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${WIDTH} ${y}' width='${WIDTH}' height='${y}' role='img'>\n<style>${style}</style>\n${parts.join("\n")}\n</svg>\n`;
}

const round = (value: number): number => Math.round(value * 10) / 10;

function text(x: number, y: number, content: string, attributes = ""): string {
	const safe = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
	return `<text x='${x}' y='${y}' ${attributes}>${safe}</text>`;
}
