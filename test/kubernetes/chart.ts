/** `npm run test:chart`, TAP: Helm itself renders the chart to the objects of deploy/fairway.yaml, and refuses bad values. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t from "tap";
import { parse, parseAllDocuments } from "yaml";
import { CHART } from "../../scripts/chart.js";

function helm(...args: string[]) {
	const version = ["--kube-version", "1.37.0", "--namespace", "kube-system"];
	return spawnSync(
		"build/kubernetes/bin/helm",
		["template", "fairway", CHART, ...version, ...args],
		{
			encoding: "utf8",
		},
	);
}

/** By kind, with the configuration as a value. */
function objects(text: string) {
	return parseAllDocuments(text)
		.map((document) => document.toJS())
		.filter((object) => object !== null)
		.map((object) =>
			object.kind === "ConfigMap"
				? { ...object, data: parse(object.data["fairway.yaml"]) }
				: object,
		)
		.sort((a, b) => (a.kind < b.kind ? -1 : 1));
}

t.test("the chart renders to the objects of deploy/fairway.yaml", async (t) => {
	const { status, stdout, stderr } = helm();
	t.equal(status, 0, stderr);
	t.strictSame(objects(stdout), objects(readFileSync("deploy/fairway.yaml", "utf8")));
});

function agent(...args: string[]) {
	const { stdout, stderr } = helm(...args);
	const daemonSet = objects(stdout).find(({ kind }) => kind === "DaemonSet");
	if (daemonSet === undefined) throw new Error(stderr);
	return daemonSet.spec.template.spec;
}

t.test("the agents' Nodes are selected by a value", async (t) => {
	const { nodeSelector } = agent("--set", "nodeSelector.network=fairway");
	t.strictSame(nodeSelector, { "kubernetes.io/os": "linux", network: "fairway" });
});

for (const [health, host, port] of [
	["127.0.0.1:7000", "127.0.0.1", 7000],
	[":7000", "127.0.0.1", 7000],
	["0.0.0.0:7000", "127.0.0.1", 7000],
	["[::]:7000", "127.0.0.1", 7000],
	["[fd00::1]:7000", "fd00::1", 7000],
] as const)
	t.test(`the kubelet's probes follow http.health ${health}`, async (t) => {
		const [container] = agent("--set-string", `config.http.health=${health}`).containers;
		for (const name of ["startupProbe", "livenessProbe", "readinessProbe"])
			t.match(container[name].httpGet, { host, port });
	});

t.test("without http.health there are no probes", async (t) => {
	const [container] = agent("--set-string", "config.http.health=").containers;
	for (const name of ["startupProbe", "livenessProbe", "readinessProbe"])
		t.notOk(name in container, name);
});

for (const [value, said] of [
	["config.trafficEncapMode=sideways", /must be one of/],
	["config.nonsense=1", /'nonsense' not allowed/],
] as const)
	t.test(`the chart refuses ${value}`, async (t) => {
		const { status, stderr } = helm("--set", value);
		t.not(status, 0);
		t.match(stderr, said);
	});
