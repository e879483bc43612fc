import { readFileSync } from "node:fs";
import t from "tap";
import { parseAllDocuments } from "yaml";
import { NAME, TAG } from "../../scripts/image.mjs";
import { parseConfig } from "../../src/config/parse.js";

interface Container {
	name: string;
	image: string;
	imagePullPolicy: string;
	args: string[];
	env?: { name: string }[];
	envFrom: { configMapRef: { name: string; optional: boolean } }[];
	resources: { requests: Record<string, string> };
	securityContext: Record<string, unknown>;
	volumeMounts: { name: string; mountPath: string; subPath?: string; mountPropagation?: string }[];
}

const documents = parseAllDocuments(readFileSync("deploy/fairway.yaml", "utf8"));
const objects = documents.map((document) => document.toJS());
const only = (kind: string) => {
	const [object, ...more] = objects.filter((one) => one.kind === kind);
	t.ok(object, kind);
	t.equal(more.length, 0, `one ${kind}`);
	return object;
};
const daemonSet = only("DaemonSet");
const pod = daemonSet.spec.template.spec;
const containers: Container[] = [...pod.initContainers, ...pod.containers];

t.test("the manifest is valid YAML, and its objects belong together", async (t) => {
	t.same(
		documents.flatMap(({ errors }) => errors),
		[],
	);
	for (const { metadata } of objects) t.match(metadata.name, /^fairway(-config)?$/);
	const account = only("ServiceAccount").metadata;
	t.equal(pod.serviceAccountName, account.name);
	const binding = only("ClusterRoleBinding");
	t.same(binding.subjects, [
		{ kind: "ServiceAccount", name: account.name, namespace: account.namespace },
	]);
	t.equal(binding.roleRef.name, only("ClusterRole").metadata.name);
	t.same(daemonSet.spec.selector.matchLabels, daemonSet.spec.template.metadata.labels);
	t.equal(daemonSet.metadata.namespace, "kube-system");
});

t.test(
	"every container has the image that npm run image makes, and the API server's address",
	async (t) => {
		for (const container of containers) {
			t.equal(container.image, `${NAME}:${TAG}`, container.name);
			t.equal(container.imagePullPolicy, "IfNotPresent");
			t.same(container.envFrom, [{ configMapRef: { name: "fairway-api-server", optional: true } }]);
			t.ok(container.resources.requests.memory && container.resources.requests.cpu);
			t.equal(container.securityContext.readOnlyRootFilesystem, true);
		}
	},
);

t.test("volumes and their mounts agree, and the configuration can change live", async (t) => {
	const volumes: { name: string; configMap?: { name: string } }[] = pod.volumes;
	const mounted = new Set(
		containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)),
	);
	t.same([...mounted].sort(), volumes.map(({ name }) => name).sort());
	const config = volumes.find(({ configMap }) => configMap !== undefined);
	t.equal(config?.configMap?.name, "fairway-config");
	for (const { volumeMounts } of containers)
		for (const mount of volumeMounts)
			t.notOk("subPath" in mount, "an edit never arrives in a subPath");
	const agent = containers.find(({ name }) => name === "fairway");
	const propagation = Object.fromEntries(
		(agent?.volumeMounts ?? []).map(({ mountPath, mountPropagation }) => [
			mountPath,
			mountPropagation,
		]),
	);
	t.match(propagation, {
		"/sys/fs/bpf": "HostToContainer",
		"/run/netns": "HostToContainer",
	});
});

t.test("the configuration is valid, and the agent reads it where it is mounted", async (t) => {
	const map = only("ConfigMap");
	t.same(Object.keys(map.data), ["fairway.yaml"]);
	t.match(parseConfig(map.data["fairway.yaml"], "fairway.yaml"), {
		config: { trafficEncapMode: "encap" },
	});
	const agent = containers.find(({ name }) => name === "fairway");
	const file = agent?.args[agent.args.indexOf("--config") + 1] ?? "";
	const mount = agent?.volumeMounts.find(({ name }) => name === "config");
	t.equal(file, `${mount?.mountPath}/fairway.yaml`);
	t.same(
		agent?.env?.map(({ name }) => name),
		["NODE_NAME"],
	);
	t.ok(agent?.args.includes("$(NODE_NAME)"));
});

t.test("the role writes Events and Nodes only, and knows no secrets", async (t) => {
	const { rules } = only("ClusterRole");
	for (const { verbs, resources, apiGroups } of rules) {
		if (verbs.some((verb: string) => !["get", "list", "watch"].includes(verb)))
			t.match(`${resources}: ${verbs}`, /^(events: create|nodes,nodes\/status: patch)$/);
		t.notOk(resources.includes("secrets") || resources.includes("configmaps"));
		t.notOk([...resources, ...verbs, ...apiGroups].includes("*"));
	}
});

t.test("the cleanup has the agent's view of a Node, and the plugin's directory", async (t) => {
	const [cleanup, ...more] = parseAllDocuments(readFileSync("deploy/cleanup.yaml", "utf8"));
	t.equal(more.length, 0);
	const { spec } = cleanup!.toJS().spec.template as { spec: typeof pod };
	t.equal(spec.hostNetwork, true);
	t.equal(spec.automountServiceAccountToken, false);
	const [first, second, done] = [...spec.initContainers, ...spec.containers] as Container[];
	for (const container of [first, second, done])
		t.match(container, { image: `${NAME}:${TAG}`, imagePullPolicy: "IfNotPresent" });
	t.strictSame(first?.args, ["cleanup"]);
	const agent = containers.find(({ name }) => name === "fairway");
	t.strictSame(
		first?.volumeMounts,
		agent?.volumeMounts.filter(({ name }) => name !== "config"),
	);
	const volumes = (of: typeof pod) =>
		of.volumes.filter(({ name }: { name: string }) => name !== "config");
	t.strictSame(volumes(spec), volumes(pod));
});
