/** Reads the Prometheus text format, strictly: an unknown line, a wrong order or a doubled series is an error. */

export interface Series {
	name: string;
	labels: Record<string, string>;
	value: number;
}

export class Metrics {
	readonly types = new Map<string, string>();
	readonly #series = new Map<string, Series>();

	add(series: Series): void {
		const key = keyOf(series.name, series.labels);
		if (this.#series.has(key)) throw new Error(`doubled: ${key}`);
		this.#series.set(key, series);
	}

	has(name: string): boolean {
		return this.series(name).length > 0;
	}

	/** Of a metric; of a histogram: its buckets, sum and count. */
	series(name: string): Series[] {
		const names = [name, `${name}_bucket`, `${name}_sum`, `${name}_count`];
		return [...this.#series.values()].filter((series) => names.includes(series.name));
	}

	value(name: string, labels: Record<string, string> = {}): number | undefined {
		return this.#series.get(keyOf(name, labels))?.value;
	}
}

function keyOf(name: string, labels: Record<string, string>): string {
	return JSON.stringify([name, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"/y;

export function parseMetrics(text: string): Metrics {
	const metrics = new Metrics();
	let current = "";
	if (!text.endsWith("\n")) throw new Error("the last line has no end");
	for (const line of text.slice(0, -1).split("\n")) {
		if (line === "") continue;
		const [, type, kind] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? [];
		if (type !== undefined && kind !== undefined) {
			if (metrics.types.has(type)) throw new Error(`described twice: ${type}`);
			metrics.types.set(type, kind);
			current = type;
			continue;
		}
		if (/^# HELP \S+ ./.test(line)) continue;
		const [, name = "", labels = "", value = ""] =
			/^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
		const base =
			metrics.types.get(current) === "histogram" ? name.replace(/_(bucket|sum|count)$/, "") : name;
		if (base !== current) throw new Error(`not of ${current}: ${line}`);
		if (Number.isNaN(Number(value))) throw new Error(`no number: ${line}`);
		metrics.add({ name, labels: parseLabels(labels), value: Number(value) });
	}
	return metrics;
}

function parseLabels(text: string): Record<string, string> {
	const labels: Record<string, string> = {};
	for (let at = 0; at < text.length; at++) {
		LABEL.lastIndex = at;
		const [whole = "", name = "", value = ""] = LABEL.exec(text) ?? [];
		if (whole === "") throw new Error(`no labels: ${text}`);
		labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
		at += whole.length;
		if (at < text.length && text[at] !== ",") throw new Error(`no labels: ${text}`);
	}
	return labels;
}
