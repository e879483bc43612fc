/**
 * kube-proxy on node1 of a site with kernel forwarding: the program itself, as test/kubernetes builds it, with an API
 * server that serves the Services of service_plan.ts.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { Namespace } from "../../src/lab/namespace.js";
import type { ApiObject } from "../../test/tools/fake_api/cluster.js";
import type { Change } from "./compared_api.js";
import { ComparedProgram, withoutProgram } from "./compared_program.js";
import { CLUSTER_IP, measuredSlice, serviceManifests } from "./service_plan.js";
import type { Site } from "./site.js";

const NODE = "node1";
const CHANGES = 10;
/** Longer than kube-proxy's shortest time between two synchronisations, which a change then does not wait for. */
const PAUSE_MS = 1500;
const PATIENCE_MS = 180_000;

export const withoutKubeProxy = withoutProgram("kube-proxy");
export const PROXY_MODES = ["iptables", "nftables"] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

export class KubeProxy {
	readonly #node: Namespace;
	readonly #program: ComparedProgram;

	private constructor(node: Namespace, program: ComparedProgram) {
		this.#node = node;
		this.#program = program;
	}

	/** Resolves when it serves the measured Service among so many. */
	static async start(site: Site, mode: ProxyMode, services: number): Promise<KubeProxy> {
		const node = site.namespace(NODE);
		const program = await ComparedProgram.prepare("kube-proxy", node, objectsOf(services));
		const config = join(program.folder, "config.json");
		writeFileSync(config, JSON.stringify(configOf(mode, program.kubeconfig)));
		program.run(["--config", config]);
		const proxy = new KubeProxy(node, program);
		await proxy.#serves();
		return proxy;
	}

	/** From an endpoint's event to its rule in the kernel, ms: one comes to the measured Service, and goes, in turn. */
	async measureChanges(): Promise<number[]> {
		const times: number[] = [];
		// It tells of a commit at once, while a look at all rules takes long.
		const monitor = spawn("nsenter", [
			...[`--net=/run/netns/${this.#node.name}`, "nft", "monitor", "rules"],
		]);
		const seen: { line: (text: string) => void } = { line: () => undefined };
		createInterface({ input: monitor.stdout }).on("line", (text) => seen.line(text));
		try {
			await delay(PAUSE_MS);
			for (let i = 0; i < CHANGES; i++) {
				const slice = measuredSlice(1 + ((i + 1) % 2)) as ApiObject;
				const verb = i % 2 === 0 ? "add rule" : "delete rule";
				const done = new Promise<void>((resolve, reject) => {
					const timer = setTimeout(
						() => reject(new Error(`Cannot measure kube-proxy: no "${verb}" in ${PATIENCE_MS} ms`)),
						PATIENCE_MS,
					);
					seen.line = (text) => {
						if (!text.startsWith(verb)) return;
						clearTimeout(timer);
						resolve();
					};
				});
				const began = performance.now();
				await this.#program.change({ plural: "endpointslices", put: [slice] });
				await done;
				times.push(performance.now() - began);
				seen.line = () => undefined;
				await delay(PAUSE_MS);
			}
		} finally {
			monitor.kill();
		}
		return times;
	}

	async #serves(): Promise<void> {
		const began = performance.now();
		const look = [
			"sh",
			"-c",
			`nft list ruleset | grep -c 'ip daddr.*${CLUSTER_IP}\\|${CLUSTER_IP} . tcp'`,
		];
		while (Number((await this.#node.run(look, { mayFail: true })).stdout) === 0) {
			if (performance.now() - began > PATIENCE_MS)
				throw new Error(`Cannot start kube-proxy: no rule has ${CLUSTER_IP}`);
			await delay(200);
		}
	}
}

function configOf(mode: ProxyMode, kubeconfig: string): object {
	return {
		apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
		kind: "KubeProxyConfiguration",
		mode,
		hostnameOverride: NODE,
		clientConnection: { kubeconfig, contentType: "application/json" },
		clusterCIDR: "10.244.0.0/16",
		conntrack: { maxPerCore: 0, min: 0 },
	};
}

function objectsOf(services: number): Change[] {
	const address = { type: "InternalIP", address: "192.168.1.1" };
	const node = { metadata: { name: NODE }, status: { addresses: [address] } };
	const objects = Object.values(serviceManifests(services))
		.flat()
		.flatMap((object) =>
			"items" in object ? (object.items as ApiObject[]) : [object as ApiObject],
		);
	const of = (kind: string) => objects.filter((object) => object.kind === kind);
	return [
		{ plural: "nodes", put: [node] },
		{ plural: "services", put: of("Service") },
		{ plural: "endpointslices", put: of("EndpointSlice") },
	];
}
