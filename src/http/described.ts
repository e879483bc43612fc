/** The description of a metric in the text format and in docs/METRICS.md. */
export interface Described {
	name: string;
	type: "gauge" | "counter" | "histogram";
	help: string;
	labels: readonly string[];
}
