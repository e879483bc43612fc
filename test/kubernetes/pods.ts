/** Pods for tests: agnhost on chosen Nodes, with commands run in their network namespaces. */
import type { Output, RunOptions } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import type { Daemon } from "./daemon.js";
import { dnsAddress, ipv4First } from "./layout.js";

export const agnhost = "localhost/e2e/agnhost:2.66.1";

interface PodObject {
	metadata: { name: string; namespace: string; uid: string };
	spec: { nodeName?: string };
	status: {
		phase?: string;
		podIPs?: { ip: string }[];
		conditions?: { type: string; status: string }[];
		containerStatuses?: { state: { running?: { startedAt: string } } }[];
	};
}

/** A running Pod. Its commands are the machine's, so they need neither the API server nor tools in the image. */
export class TestPod {
	readonly name: string;
	readonly node: string;
	/** IPv4 first. */
	readonly addresses: readonly string[];
	/** When its containers were started, ms since 1970; 0: they do not run. */
	readonly startedAt: number;
	readonly #cluster: Cluster;
	#namespace = "";

	constructor(cluster: Cluster, object: PodObject) {
		this.#cluster = cluster;
		this.name = object.metadata.name;
		this.node = object.spec.nodeName ?? "";
		this.addresses = ipv4First((object.status.podIPs ?? []).map(({ ip }) => ip));
		const starts = (object.status.containerStatuses ?? []).map(({ state }) =>
			Date.parse(state.running?.startedAt ?? "1970"),
		);
		this.startedAt = Math.max(0, ...starts);
	}

	/** Runs a command in the Pod's network namespace, with the Node's files. */
	async run(command: readonly string[], options?: RunOptions): Promise<Output> {
		const { node, path } = await this.#place();
		return node.run(["nsenter", `--net=${path}`, "--", ...command], options);
	}

	async spawn(name: string, command: readonly string[]): Promise<Daemon> {
		const { node, path } = await this.#place();
		return node.spawn(name, ["nsenter", `--net=${path}`, "--", ...command]);
	}

	/** The body of http://ADDRESS/hostname; undefined: no answer. */
	async get(address: string): Promise<Output | undefined> {
		const host = address.includes(":") ? `[${address}]` : address;
		const curl = ["curl", "-sSf", "--max-time", "3", `http://${host}/hostname`];
		const output = await this.run(curl, { mayFail: true });
		return output.status === 0 ? output : undefined;
	}

	/** The addresses that the cluster's DNS has for a name, of both families. */
	async lookUp(name: string): Promise<string[]> {
		const dig = ["dig", "+short", "+time=3", `@${dnsAddress}`, name, "A", name, "AAAA"];
		const { stdout } = await this.run(dig, { mayFail: true });
		return stdout.split("\n").filter((line) => line !== "");
	}

	async #place() {
		const node = this.#cluster.node(this.node);
		if (this.#namespace === "") {
			const { stdout } = await node.script(`
				for file in /run/netns/*; do
					if nsenter --net="$file" ip -o address | grep -qF ' ${this.addresses[0]}/'; then echo "$file"; fi
				done`);
			this.#namespace = stdout.trim();
			if (this.#namespace === "")
				throw new Error(`Cannot find the network namespace of ${this.name} on ${this.node}.`);
		}
		return { node, path: this.#namespace };
	}
}

/** Namespace of the tests' objects; deleting it removes them all. */
export const testNamespace = "fairway-test";

export async function makeNamespace(cluster: Cluster): Promise<void> {
	await cluster.apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: testNamespace } }]);
}

/** A DaemonSet of Pods `NAME`, with the label `app=NAME`. */
export const daemonSet = (name: string, spec = podSpec()): object => ({
	apiVersion: "apps/v1",
	kind: "DaemonSet",
	metadata: { name, namespace: testNamespace },
	spec: {
		selector: { matchLabels: { app: name } },
		template: { metadata: { labels: { app: name } }, spec },
	},
});

/** Starts such Pods, by default with a web server on port 80; waits until all are Ready. */
export async function startOnEveryNode(
	cluster: Cluster,
	name: string,
	spec = podSpec(),
): Promise<TestPod[]> {
	await makeNamespace(cluster);
	await cluster.apply([daemonSet(name, spec)]);
	return readyPods(cluster, name, cluster.nodes.length);
}

/** A Deployment of `count` such Pods. */
export async function startDeployment(
	cluster: Cluster,
	name: string,
	count: number,
): Promise<void> {
	await makeNamespace(cluster);
	await cluster.apply([
		{
			apiVersion: "apps/v1",
			kind: "Deployment",
			metadata: { name, namespace: testNamespace },
			spec: {
				replicas: count,
				selector: { matchLabels: { app: name } },
				template: { metadata: { labels: { app: name } }, spec: podSpec() },
			},
		},
	]);
}

/** Changes the number of its Pods, and waits until there are no others. */
export async function scale(cluster: Cluster, name: string, count: number): Promise<void> {
	await cluster.kubectl(
		...["-n", testNamespace, "scale", "deployment", name, `--replicas=${count}`],
	);
	await readyPods(cluster, name, count);
}

/** The Pods with the label `app=NAME`, once there are so many, all of them Ready. */
export async function readyPods(
	cluster: Cluster,
	name: string,
	count: number,
	timeoutMs = 120_000,
): Promise<TestPod[]> {
	return await until(
		`${count} Pods ${name} are Ready`,
		async () => {
			const pods = await podsOf(cluster, name);
			const ready = pods.filter(isReady);
			if (pods.length !== count || ready.length !== count) return undefined;
			return ready.map((pod) => new TestPod(cluster, pod));
		},
		timeoutMs,
	);
}

async function podsOf(cluster: Cluster, name: string): Promise<PodObject[]> {
	interface PodList {
		items: PodObject[];
	}
	return (await cluster.get<PodList>("-n", testNamespace, "pods", "-l", `app=${name}`)).items;
}

const isReady = ({ status }: PodObject): boolean =>
	status.conditions?.some((one) => one.type === "Ready" && one.status === "True") ?? false;

/** A web server on port 80 that says the Pod's name, and ends at once when told to. */
export const podSpec = (): { containers: object[] } & Record<string, unknown> => ({
	terminationGracePeriodSeconds: 0,
	tolerations: [{ operator: "Exists" }],
	containers: [
		{
			name: "web",
			image: agnhost,
			args: ["netexec", "--http-port=80"],
			readinessProbe: { httpGet: { path: "/hostname", port: 80 }, periodSeconds: 1 },
		},
	],
});

/** Pings each Pod from each other one, in both families. @returns those that got no answer */
export async function unreachable(pods: readonly TestPod[]): Promise<string[]> {
	const failed = pods.flatMap((from) =>
		pods
			.filter((to) => to !== from)
			.flatMap((to) =>
				to.addresses.map(async (address) => {
					const ping = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", address];
					const { status } = await from.run(ping, { mayFail: true });
					const shown = `${from.name} (${from.node}) → ${to.name} (${to.node}, ${address})`;
					return status === 0 ? "" : shown;
				}),
			),
	);
	return (await Promise.all(failed)).filter((line) => line !== "");
}

/** A stream of echo requests at a fixed rate, from one Pod to another. */
export class Stream {
	readonly #pod: TestPod;
	readonly #daemon: Daemon;
	readonly #file: string;

	private constructor(pod: TestPod, daemon: Daemon, file: string) {
		this.#pod = pod;
		this.#daemon = daemon;
		this.#file = file;
	}

	/** @param rate packets a second */
	static async start(from: TestPod, to: TestPod, family: 4 | 6 = 4, rate = 1000): Promise<Stream> {
		const address = to.addresses[family === 4 ? 0 : 1]!;
		const file = `/run/stream-${process.hrtime.bigint()}`;
		// Bounded by a count: with a deadline, ping would end at the first ICMP error.
		const script = `echo $$ > ${file}.pid; exec ping -n -q -i ${1 / rate} -c 900000 ${address} > ${file}`;
		const daemon = await from.spawn("stream", ["sh", "-c", script]);
		await until("the stream runs", async () => {
			const { stdout } = await from.run(["cat", `${file}.pid`], { mayFail: true });
			return stdout.endsWith("\n");
		});
		return new Stream(from, daemon, file);
	}

	/** Ends it. @returns numbers of packets */
	async end(): Promise<{ sent: number; lost: number }> {
		// The signal goes to ping itself: nsenter has forked it and passes nothing on.
		await this.#pod.run(["sh", "-c", `kill -INT $(cat ${this.#file}.pid)`]);
		await until("ping has ended", () => !this.#daemon.running);
		const { stdout } = await this.#pod.run(["cat", this.#file]);
		const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
		if (sent === undefined) throw new Error(`Cannot read the result of ping: ${stdout}`);
		// The answer to the last one may still have been on its way.
		return { sent: Number(sent), lost: Math.max(0, Number(sent) - Number(received) - 1) };
	}
}
