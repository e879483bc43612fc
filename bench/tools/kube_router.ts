import { setTimeout as delay } from "node:timers/promises";
import type { Namespace } from "../../src/lab/namespace.js";
import type { ApiObject } from "../../test/tools/fake_api/cluster.js";
import type { Change } from "./compared_api.js";
import { ComparedProgram, withoutProgram } from "./compared_program.js";
import { type Manifests, policy } from "./policy_plan.js";
import type { Site } from "./site.js";

const CHANGES = 10;
/** With 10,000 policies a synchronisation takes long. */
const PATIENCE = 180_000;
const CHANGE_PATIENCE = 30_000;

export const withoutKubeRouter = withoutProgram("kube-router");

export class KubeRouter {
	readonly #node: Namespace;
	readonly #program: ComparedProgram;

	private constructor(node: Namespace, program: ComparedProgram) {
		this.#node = node;
		this.#program = program;
	}

	/** @param changes the objects at its start */
	static async start(site: Site, name: string, changes: readonly Change[]): Promise<KubeRouter> {
		const node = site.namespace(name);
		const program = await ComparedProgram.prepare("kube-router", node, changes);
		const only = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"];
		const off = ["--enable-ipv6=false", "--health-port=0", "--metrics-port=0"];
		program.run(["--kubeconfig", program.kubeconfig, ...off, ...only], { NODE_NAME: name });
		return new KubeRouter(node, program);
	}

	change(change: Change): Promise<void> {
		return this.#program.change(change);
	}

	/** Resolves when a rule or set of the Node has this text. */
	async until(text: string, patience = PATIENCE): Promise<void> {
		const began = performance.now();
		while (!(await this.rules()).includes(text)) {
			await delay(5);
			if (performance.now() - began > patience)
				throw new Error(
					`Cannot wait for kube-router: no rule has ${text.trim()} after ${patience / 1000} s`,
				);
		}
	}

	/** On both Nodes, kernel forwarding beneath. Returns node1's. */
	static async both(site: Site, policies: readonly object[]): Promise<KubeRouter> {
		const firewalls: KubeRouter[] = [];
		for (const name of ["node1", "node2"])
			firewalls.push(await KubeRouter.start(site, name, objectsOf(site, policies)));
		for (const firewall of firewalls) await firewall.until("run through nw policy");
		return firewalls[0]!;
	}

	async rules(): Promise<string> {
		const { stdout } = await this.#node.run(["sh", "-c", "iptables-save -t filter; ipset save"], {
			mayFail: true,
		});
		return stdout;
	}
}

function objectsOf(site: Site, policies: readonly object[]): Change[] {
	const nodes = [1, 2].map((n) => ({
		metadata: { name: `node${n}` },
		spec: { podCIDR: `10.244.${n}.0/24`, podCIDRs: [`10.244.${n}.0/24`] },
		status: { addresses: [{ type: "InternalIP", address: `192.168.1.${n}` }] },
	}));
	const pods = [1, 2].map((n) => {
		const ip = site.lab.address(`pod${n}`, 4);
		return {
			metadata: { name: `pod${n}`, namespace: "default", labels: { app: `pod${n}` } },
			spec: { nodeName: `node${n}` },
			status: { phase: "Running", hostIP: `192.168.1.${n}`, podIP: ip, podIPs: [{ ip }] },
		};
	});
	const namespaces = new Set(policies.map((one) => (one as ApiObject).metadata.namespace!));
	return [
		{ plural: "nodes", put: nodes },
		{
			plural: "namespaces",
			put: [...namespaces].map((name) => ({ metadata: { name, labels: {} } })),
		},
		{ plural: "pods", put: pods },
		{ plural: "networkpolicies", put: policies as ApiObject[] },
	];
}

/** All NetworkPolicies of these manifests. */
export function policiesOf(manifests: Manifests): object[] {
	return Object.values(manifests)
		.flat()
		.flatMap((object) => ("items" in object ? (object.items as object[]) : [object]))
		.filter((object) => "kind" in object && object.kind === "NetworkPolicy");
}

/** From the event to the rule, ms: of a policy that changes. */
export async function measureFirewall(firewall: KubeRouter): Promise<number[]> {
	const times: number[] = [];
	for (let i = 0; i < CHANGES; i++) {
		const ports = [{ protocol: "UDP", port: 500 + i }];
		const peers = [{ podSelector: { matchLabels: { app: "pod2" } } }];
		const began = performance.now();
		const put = [policy("changing", "pod1", "egress", [{ peers, ports }]) as ApiObject];
		await firewall.change({ plural: "networkpolicies", put });
		await firewall.until(`--dport ${500 + i} `, CHANGE_PATIENCE);
		times.push(performance.now() - began);
	}
	return times;
}
