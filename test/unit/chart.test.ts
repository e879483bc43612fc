/** The chart gives the objects of deploy/fairway.yaml. It is rendered here with what it uses of Helm's language. */
import { readFileSync } from "node:fs";
import t from "tap";
import { parse, parseAllDocuments, stringify } from "yaml";
import { CHART, chartFiles } from "../../scripts/chart.js";
import { listenAddress } from "../../src/config/listen_address.js";
import { parseConfig } from "../../src/config/parse.js";

const manifest = readFileSync("deploy/fairway.yaml", "utf8");
const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const file = (name: string) => readFileSync(`${CHART}/${name}`, "utf8");

function look(expression: string, root: Record<string, unknown>): unknown {
	const [path = "", ...pipes] = expression.split("|").map((part) => part.trim());
	const [, helper] = /^include "(.*)" \.$/.exec(path) ?? [];
	const at = (path: string) =>
		path
			.slice(1)
			.split(".")
			.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], root);
	let value = helper === undefined ? at(path) : health(root.Values)[helper];
	for (const pipe of pipes) {
		const [name = "", argument = ""] = pipe.split(" ");
		if (name === "default") value = value === "" ? at(argument) : value;
		else if (name === "quote") value = JSON.stringify(value);
		else if (name === "toYaml") value = stringify(value).trimEnd();
		else if (name === "indent") value = String(value).replace(/^/gm, " ".repeat(Number(argument)));
		else throw new Error(`not known here: ${pipe}`);
	}
	if (value === undefined) throw new Error(`no value: ${expression}`);
	return value;
}

/** What templates/_helpers.tpl gives; npm run test:chart has Helm itself read it. */
function health(values: unknown): Record<string, string> {
	const { config } = values as { config?: { http?: { health?: string } } };
	const { host = "127.0.0.1", port } =
		listenAddress(config?.http?.health ?? "127.0.0.1:9479") ?? {};
	return { "fairway.healthHost": host, "fairway.healthPort": String(port ?? "") };
}

function rendered(values: object) {
	const chart = parse(file("Chart.yaml"));
	const root = {
		Values: values,
		Release: { Namespace: "kube-system" },
		Chart: { AppVersion: chart.appVersion },
	};
	const chosen = file("templates/fairway.yaml").replace(
		/\{\{- if (.*?) \}\}\n([\s\S]*?)\{\{- end \}\}\n/g,
		(_, condition, part) => (look(condition, root) === "" ? "" : part),
	);
	const text = chosen.replace(/\{\{ (.*?) \}\}/g, (_, expression) =>
		String(look(expression, root)),
	);
	return parseAllDocuments(text).map((document) => document.toJS());
}

const plain = (objects: { kind: string; data?: Record<string, string> }[]) =>
	objects.map((object) =>
		object.kind === "ConfigMap"
			? { ...object, data: { "fairway.yaml": parse(object.data?.["fairway.yaml"] ?? "") } }
			: object,
	);

t.test("the committed chart is made from the manifest and the schema", async (t) => {
	for (const [name, text] of Object.entries(chartFiles(manifest, version)))
		t.equal(file(name), text, name);
});

t.test("with its own values the chart renders to the objects of deploy/fairway.yaml", async (t) => {
	const objects = parseAllDocuments(manifest).map((document) => document.toJS());
	t.strictSame(plain(rendered(parse(file("values.yaml")))), plain(objects));
});

t.test("values become the configuration and the image", async (t) => {
	const values = {
		...parse(file("values.yaml")),
		config: { trafficEncapMode: "hybrid", hybrid: { tryDirectCIDRs: ["10.0.0.0/8"] } },
		image: { repository: "registry.example/fairway", tag: "9", pullPolicy: "Always" },
	};
	const objects = rendered(values);
	const config = objects.find(({ kind }) => kind === "ConfigMap").data["fairway.yaml"];
	t.match(parseConfig(config, "f"), {
		config: { trafficEncapMode: "hybrid", hybrid: { tryDirectCIDRs: ["10.0.0.0/8"] } },
	});
	const { initContainers, containers } = objects.find(({ kind }) => kind === "DaemonSet").spec
		.template.spec;
	for (const { image } of [...initContainers, ...containers])
		t.equal(image, "registry.example/fairway:9");
});

const podOf = (values: object) =>
	rendered({ ...parse(file("values.yaml")), ...values }).find(({ kind }) => kind === "DaemonSet")
		.spec.template.spec;

t.test("the agents' Nodes are selected by a value", async (t) => {
	const nodeSelector = { "kubernetes.io/os": "linux", network: "fairway" };
	t.strictSame(podOf({ nodeSelector }).nodeSelector, nodeSelector);
});

t.test("the kubelet's probes follow http.health", async (t) => {
	const container = (health: string) => podOf({ config: { http: { health } } }).containers[0];
	const { startupProbe, livenessProbe, readinessProbe } = container("[::1]:7000");
	for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe])
		t.match(httpGet, { host: "::1", port: 7000 });
	const silent = container("");
	for (const name of ["startupProbe", "livenessProbe", "readinessProbe"]) t.notOk(name in silent);
});
