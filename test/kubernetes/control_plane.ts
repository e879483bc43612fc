/**
 * etcd, API server, controller manager and scheduler, as processes in the network namespace of n1.
 * Each can be stopped and started again; etcd's data stays.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { until } from "../../src/lab/until.js";
import { kubeconfig } from "./certificates.js";
import { Daemon } from "./daemon.js";
import { controlPlane, folders, inOrder, podCIDRs, program, serviceCIDRs } from "./layout.js";

export type Part = "etcd" | "api-server" | "controller-manager" | "scheduler";

const pki = (name: string): string => join(folders.pki, name);

const commands: Record<Part, () => string[]> = {
	etcd: () => [
		program("etcd"),
		...["--data-dir", join(folders.run, "etcd"), "--unsafe-no-fsync", "--log-level", "warn"],
		...["--listen-client-urls", "http://127.0.0.1:2379"],
		...["--advertise-client-urls", "http://127.0.0.1:2379"],
		...["--listen-peer-urls", "http://127.0.0.1:2380"],
	],
	"api-server": () => [
		program("kube-apiserver"),
		...["--etcd-servers", "http://127.0.0.1:2379"],
		...[
			"--advertise-address",
			inOrder(controlPlane.v4, controlPlane.v6)[0],
			"--secure-port",
			"6443",
		],
		...["--tls-cert-file", pki("api-server.crt"), "--tls-private-key-file", pki("api-server.key")],
		...["--client-ca-file", pki("ca.crt")],
		...["--kubelet-client-certificate", pki("api-server-kubelet.crt")],
		...["--kubelet-client-key", pki("api-server-kubelet.key")],
		...["--kubelet-preferred-address-types", "InternalIP"],
		...["--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"],
		"--allow-privileged",
		...["--service-account-issuer", "https://kubernetes.default.svc.cluster.local"],
		...["--service-account-key-file", pki("service-account.pub")],
		...["--service-account-signing-key-file", pki("service-account.key")],
		...["--service-cluster-ip-range", serviceCIDRs.join(",")],
		// A stopped server has to be gone soon, whatever watches it serves.
		...["--shutdown-delay-duration", "0s"],
	],
	"controller-manager": () => [
		program("kube-controller-manager"),
		...["--kubeconfig", kubeconfig("controller-manager"), "--allocate-node-cidrs"],
		...["--cluster-cidr", podCIDRs.join(","), "--service-cluster-ip-range", serviceCIDRs.join(",")],
		...["--node-cidr-mask-size-ipv4", "24", "--node-cidr-mask-size-ipv6", "64"],
		...["--service-account-private-key-file", pki("service-account.key")],
		...["--root-ca-file", pki("ca.crt"), "--flex-volume-plugin-dir", join(folders.run, "flex")],
		...["--use-service-account-credentials", "--leader-elect=false"],
		// After an outage of the API server it would find all Nodes not ready, and Services without endpoints,
		// until what it watches is up to date again.
		...["--node-monitor-grace-period", "10m"],
	],
	scheduler: () => [
		program("kube-scheduler"),
		...["--kubeconfig", kubeconfig("scheduler"), "--leader-elect=false"],
	],
};

export class ControlPlane {
	readonly #running = new Map<Part, Daemon>();

	async up(): Promise<void> {
		mkdirSync(join(folders.run, "flex"), { recursive: true });
		this.start("etcd");
		this.start("api-server");
		await this.answers();
		this.start("controller-manager");
		this.start("scheduler");
	}

	start(part: Part): void {
		this.#running.set(
			part,
			new Daemon(part, [
				...["nsenter", `--net=${controlPlane.namespace.path}`, "--"],
				...commands[part](),
			]),
		);
	}

	/** kill -9, as when its machine loses power. */
	async stop(part: Part): Promise<void> {
		await this.#running.get(part)?.end();
		this.#running.delete(part);
	}

	/** Waits until the API server is ready. @throws Error at once if it has ended */
	async answers(): Promise<void> {
		const get = [
			program("kubectl"),
			"--kubeconfig",
			kubeconfig("admin"),
			"get",
			"--raw",
			"/readyz",
		];
		await until(
			"the API server is ready",
			async () => {
				for (const [part, daemon] of this.#running)
					if (!daemon.running)
						throw new Error(`${part} has ended, see ${folders.logs}/${part}.log`);
				return (await controlPlane.namespace.run(get, { mayFail: true })).status === 0;
			},
			90_000,
		);
	}
}
