/** The dashboard and the alert rules ask only for metrics and labels that there are. */
import { readFileSync } from "node:fs";
import t, { type Test } from "tap";
import { parseAllDocuments } from "yaml";
import { described } from "../../src/http/metrics.js";

const known = new Map(described.map((metric) => [metric.name, metric]));
/** That scraping adds: see the PodMonitor. */
const SCRAPED = ["node", "instance", "le"];

interface Rule {
	alert: string;
	expr: string;
	annotations: Record<string, string>;
}

function check(t: Test, expression: string, texts: string): void {
	const names = [...expression.matchAll(/\b(?:fairway|process)_\w+/g)].map(([name]) =>
		name.replace(/_(bucket|sum|count)$/, ""),
	);
	t.ok(names.length > 0, expression);
	const labels = new Set(SCRAPED);
	for (const name of names) {
		t.ok(known.has(name), `${name} exists`);
		for (const label of known.get(name)?.labels ?? []) labels.add(label);
	}
	const selected = [...expression.matchAll(/[{,]\s*(\w+)(?:=~?|!=)/g)].map(
		([, label = ""]) => label,
	);
	const grouped = [...expression.matchAll(/(?:by|on)\s*\(([^)]*)\)/g)].flatMap(([, list = ""]) =>
		list.split(/,\s*/),
	);
	const shown = [...texts.matchAll(/\{\{\s*(?:\$labels\.)?([a-z]\w*)\s*\}\}/g)].map(
		([, label = ""]) => label,
	);
	for (const label of [...selected, ...grouped, ...shown])
		t.ok(labels.has(label), `${label} of ${expression}`);
	for (const name of names)
		if (known.get(name)?.type === "counter")
			t.match(expression, new RegExp(`(rate|increase)\\(${name}`), "a counter is shown as a rate");
}

t.test("the dashboard", async (t) => {
	const { panels } = JSON.parse(readFileSync("deploy/grafana/fairway.json", "utf8"));
	t.ok(panels.length > 10);
	for (const { targets } of panels)
		for (const { expr, legendFormat } of targets) check(t, expr, legendFormat);
});

t.test("the alert rules, and the port that is scraped", async (t) => {
	const [monitor, rules] = parseAllDocuments(readFileSync("deploy/monitoring.yaml", "utf8")).map(
		(document) => document.toJS(),
	);
	const list: Rule[] = rules.spec.groups.flatMap(({ rules }: { rules: Rule[] }) => rules);
	t.equal(new Set(list.map(({ alert }) => alert)).size, list.length);
	for (const { expr, annotations } of list) check(t, expr, Object.values(annotations).join(" "));
	const daemonSet = parseAllDocuments(readFileSync("deploy/fairway.yaml", "utf8"))
		.map((document) => document.toJS())
		.find(({ kind }) => kind === "DaemonSet");
	const { labels } = daemonSet.spec.template.metadata;
	t.same(monitor.spec.selector.matchLabels, labels);
	const [{ ports }] = daemonSet.spec.template.spec.containers;
	t.same(
		monitor.spec.podMetricsEndpoints.map(({ port }: { port: string }) => port),
		ports.map(({ name }: { name: string }) => name),
	);
});
