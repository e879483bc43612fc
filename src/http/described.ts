/** What the text format and docs/METRICS.md say of a metric. */
export interface Described {
	name: string;
	type: "gauge" | "counter" | "histogram";
	help: string;
	labels: readonly string[];
}
