// deploy/helm/fairway: the chart, made from deploy/fairway.yaml and the configuration's schema, so that both
// ways to install give the same objects.
import { parseAllDocuments, stringify } from "yaml";
import { configSchema } from "../src/config/schema.js";

export const CHART = "deploy/helm/fairway";

const GENERATED = "# Generated from deploy/fairway.yaml by `npm run generate`.\n";

interface Part {
	from: RegExp;
	to: string;
}

/** What of the manifest becomes a value. */
const PARTS: readonly Part[] = [
	{ from: /^# Fairway on every Node.*\n# README\.md.*\n/m, to: GENERATED },
	{ from: /namespace: kube-system/g, to: "namespace: {{ .Release.Namespace }}" },
	{
		from: /image: \S+:\S+/g,
		to: 'image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"',
	},
	{ from: /imagePullPolicy: \S+/g, to: "imagePullPolicy: {{ .Values.image.pullPolicy }}" },
	{
		from: /( {2}fairway\.yaml: \|\n)(?: {4}.*\n)+/,
		to: "$1{{ .Values.config | toYaml | indent 4 }}\n",
	},
	{
		from: /requests:\n {14}cpu: 100m\n {14}memory: 150Mi/,
		to: "requests:\n              cpu: {{ .Values.resources.requests.cpu }}\n              memory: {{ .Values.resources.requests.memory }}",
	},
];

/** The files of the chart, by name. @param manifest the text of deploy/fairway.yaml */
export function chartFiles(manifest: string, version: string): Record<string, string> {
	let template = manifest;
	for (const { from, to } of PARTS) {
		const replaced = template.replace(from, to);
		if (replaced === template)
			throw new Error(`Cannot make the chart: expected ${from} in deploy/fairway.yaml, got none`);
		template = replaced;
	}
	const objects = parseAllDocuments(manifest).map((document) => document.toJS());
	const config = objects.find(({ kind }) => kind === "ConfigMap").data["fairway.yaml"];
	const pod = objects.find(({ kind }) => kind === "DaemonSet").spec.template.spec;
	const [{ image, imagePullPolicy, resources }] = pod.containers;
	const values = {
		image: { repository: image.replace(/:[^:]*$/, ""), tag: "", pullPolicy: imagePullPolicy },
		resources,
	};
	const text = { type: "string" };
	const schema = {
		$schema: "https://json-schema.org/draft/2020-12/schema",
		type: "object",
		properties: {
			config: { ...configSchema(), $schema: undefined },
			image: { type: "object", properties: { repository: text, tag: text, pullPolicy: text } },
			resources: { type: "object" },
		},
	};
	return {
		"Chart.yaml": `${GENERATED}${stringify({
			apiVersion: "v2",
			name: "fairway",
			description:
				"Carries Pod traffic between Nodes: direct where that is proven, else in a tunnel",
			type: "application",
			version,
			appVersion: version,
			kubeVersion: ">=1.29.0-0",
		})}`,
		"values.yaml": `${GENERATED}\n# The configuration file: every key of docs/CONFIGURATION.md may stand here.\nconfig:\n${config.replace(/^(?=.)/gm, "  ")}\n# tag: empty for the chart's version.\n${stringify(values)}`,
		"values.schema.json": `${JSON.stringify(schema, undefined, "\t")}\n`,
		"templates/fairway.yaml": template,
	};
}
