/**
 * Services of a manifest directory, whose endpoints are the Pods that the lab attached:
 *
 *   pod1a, node1 ── node1: Service web ──┬ pod1b    here
 *                                        ├ pod2b    on another Node, of the same subnet
 *                                        └ pod3b    of another subnet
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parseAllDocuments, stringify } from "yaml";
import { attachedPodsFile } from "../../src/lab/attached_pods.js";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT } from "../tools/cluster.js";

const ADDRESSES = { 4: "10.96.0.10", 6: "fd00:96::a" } as const;
interface PodManifest {
	metadata: { name: string };
	spec: { containers: object[] };
}

const BACKENDS = ["pod1b", "pod2b", "pod3b"];

t.test("a Service with a selector has the Pods of all Nodes as its endpoints", async (t) => {
	const settings = { trafficEncapMode: "hybrid", fairwayProxy: { healthServer: "" } } as const;
	const cluster = await startCluster(t, settings, (directory) => {
		const pods = join(directory, "pods.yaml");
		// Each of them has its own number for the named port, and no address in its manifest.
		const text = parseAllDocuments(readFileSync(pods, "utf8"))
			.map((document) => {
				const { metadata, spec } = document.toJS() as PodManifest;
				const number = /^pod([123])b$/.exec(metadata.name)?.[1];
				const labels =
					number === undefined ? { app: "other" } : { app: `numbered-${number}`, set: "web" };
				const ports = [{ name: "echo", containerPort: TCP_PORT }];
				const containers = spec.containers.map((one) => ({ ...one, ports }));
				const pod = { metadata: { ...metadata, labels }, spec: { ...spec, containers } };
				return stringify({ apiVersion: "v1", kind: "Pod", ...pod });
			})
			.join("---\n");
		writeFileSync(pods, text);
		const service = {
			...{ apiVersion: "v1", kind: "Service", metadata: { name: "web" } },
			spec: {
				clusterIPs: Object.values(ADDRESSES),
				selector: { set: "web" },
				ports: [{ name: "tcp", port: 80, targetPort: "echo" }],
			},
		};
		const cidrs = {
			...{ apiVersion: "networking.k8s.io/v1", kind: "ServiceCIDR", metadata: { name: "a" } },
			spec: { cidrs: ["10.96.0.0/16", "fd00:96::/112"] },
		};
		writeFileSync(
			join(directory, "web.json"),
			JSON.stringify({ kind: "List", items: [service, cidrs] }),
		);
	});
	const { lab } = cluster;
	const file = attachedPodsFile(lab.manifests, lab.name);
	const shown = async (node: string): Promise<string> => {
		const [web] = await lab.agent(node).services();
		const rows = (web?.backends ?? []).map(({ address, port, node, state }) =>
			[address, port, node, state].join(" "),
		);
		return rows.sort().join("\n");
	};
	const rowsOf = (pods: readonly string[], state = "ready") =>
		pods
			.flatMap((pod) =>
				([4, 6] as const).map((family) =>
					[lab.address(pod, family), TCP_PORT, lab.pod(pod).node, state].join(" "),
				),
			)
			.sort()
			.join("\n");
	const known = async (what: string, rows: string): Promise<void> => {
		for (const { name } of lab.topology.nodes)
			await until(`${what}, on ${name}`, async () => (await shown(name)) === rows);
		t.pass(what);
	};
	await known("every agent knows the Pods of every Node", rowsOf(BACKENDS));
	for (const { name } of lab.topology.nodes)
		t.strictSame((await lab.agent(name).status()).problems, [], name);

	await cluster.serve(...BACKENDS);
	for (const client of ["pod1a", "pod4a", "node2"])
		for (const family of [4, 6] as const) {
			const station = await lab.station(client);
			const order = { host: ADDRESSES[family], port: 80, bytes: 10_000, seed: 1 };
			// More than there are backends: each of them is chosen at random.
			for (let i = 0; i < 10; i++)
				t.match(await station.order("tcpSend", order), { whole: true }, `${client} IPv${family}`);
		}

	const gone = lab.pod("pod3b");
	const rest = rowsOf(["pod1b", "pod2b"]);
	await lab.detach(gone);
	await known("a Pod that was removed is no endpoint", rest);
	await lab.attach(gone);
	await known("it is one again, with the address that it has now", rowsOf(BACKENDS));

	const status = { conditions: [{ type: "Ready", status: "False" }] };
	const pods = readFileSync(join(lab.manifests, "pods.yaml"), "utf8");
	writeFileSync(
		join(lab.manifests, "pods.yaml"),
		pods.replace(/(name: pod3b\n(?:(?!---).*\n)*)/, `$1status: ${JSON.stringify(status)}\n`),
	);
	await known("a Pod that is not ready serves nobody", rest);

	t.ok(existsSync(file));
	await lab.down();
	t.notOk(existsSync(file), "what the lab wrote goes with it");
});
