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

for (const [value, said] of [
	["config.trafficEncapMode=sideways", /must be one of/],
	["config.nonsense=1", /'nonsense' not allowed/],
] as const)
	t.test(`the chart refuses ${value}`, async (t) => {
		const { status, stderr } = helm("--set", value);
		t.not(status, 0);
		t.match(stderr, said);
	});
