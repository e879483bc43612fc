// docs/METRICS.md: every metric, from the list that a scrape is made from.
import { described } from "../src/http/metrics.js";

const INTRODUCTION = `# Metrics

Generated from \`src/http/metrics.ts\` by \`npm run generate\`.

The agent serves them at \`http.metrics\` ([CONFIGURATION.md](CONFIGURATION.md)), path \`/metrics\`, in the
Prometheus text format. \`deploy/monitoring.yaml\` has a PodMonitor and alert rules, \`deploy/grafana/\` a dashboard.
A peer is another Node in one family (4 or 6). Counters of packets survive a restart of the agent.

| name | type | labels | meaning |
| --- | --- | --- | --- |
`;

export function metricsPage(): string {
	const rows = described.map(({ name, type, labels, help }) => {
		const shown = labels.length === 0 ? "" : labels.map((label) => `\`${label}\``).join(", ");
		return `| \`${name}\` | ${type} | ${shown} | ${help.replaceAll("|", "\\|")} |\n`;
	});
	return INTRODUCTION + rows.join("");
}
