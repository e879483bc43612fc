/** `npm run test:chart`: Helm itself renders the chart to the objects of deploy/fairway.yaml, and refuses bad values. */
import { deepStrictEqual, match, notEqual, strictEqual } from "node:assert";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
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

const { status, stdout, stderr } = helm();
strictEqual(status, 0, stderr);
deepStrictEqual(objects(stdout), objects(readFileSync("deploy/fairway.yaml", "utf8")));
for (const [value, said] of [
	["config.trafficEncapMode=sideways", /must be one of/],
	["config.nonsense=1", /'nonsense' not allowed/],
] as const) {
	const refused = helm("--set", value);
	notEqual(refused.status, 0, value);
	match(refused.stderr, said);
}
console.log("The chart renders to the objects of deploy/fairway.yaml, and bad values are refused.");
