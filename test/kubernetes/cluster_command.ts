/** npm run cluster: brings the cluster up with Fairway on it, says how to use it, and removes it at Ctrl-C. */
import { parseArgs } from "node:util";
import { onInterrupt } from "../../src/lab/interrupt.js";
import { kubeconfig } from "./certificates.js";
import { Cluster, ClusterTaken, sweep } from "./cluster.js";
import { makeImages } from "./images.js";
import { controlPlane, folders, program } from "./layout.js";
import {
	isPlain,
	type Network,
	networks,
	type ServiceProxy,
	serviceProxies,
	startNetwork,
} from "./network.js";
import { prepare } from "./prepare.js";

const usage = `Usage: npm run cluster [-- OPTIONS]
  --mode MODE       ${networks.join(", ")} (default hybrid); plain: the reference plugins
                    ptp and portmap; kube-router: these and its firewall
  --services PROXY  ${serviceProxies.join(" or ")} (default fairway; plain and kube-router always have kube-proxy)
  --help
`;

const { values } = parseArgs({
	options: {
		mode: { type: "string", default: "hybrid" },
		services: { type: "string", default: "fairway" },
		help: { type: "boolean", default: false },
	},
});

function say(text: string): void {
	process.stdout.write(`${text}\n`);
}

function choice<T extends string>(option: string, value: string, known: readonly T[]): T {
	if (known.includes(value as T)) return value as T;
	process.stderr.write(
		`fairway: Cannot use --${option} ${value}: expected one of ${known.join(", ")}.\n`,
	);
	process.exit(2);
}

async function main(): Promise<void> {
	const network: Network = choice("mode", values.mode, networks);
	const given: ServiceProxy = choice("services", values.services, serviceProxies);
	const proxy = isPlain(network) ? "kube-proxy" : given;
	prepare(process.argv.slice(2));
	await makeImages();
	onInterrupt(
		async () => {
			say("\nRemoving the cluster");
			await sweep();
		},
		() => 0,
	);
	const start = Date.now();
	const cluster = await Cluster.up();
	try {
		say(`Three Nodes registered after ${((Date.now() - start) / 1000).toFixed(1)} s`);
		const seconds = await startNetwork(cluster, network, proxy);
		say(`All Nodes Ready ${seconds.toFixed(1)} s after the installation`);
		await cluster.startDns();
		say(await cluster.kubectl("get", "nodes,pods", "-A", "-o", "wide"));
		say(`In another terminal, as root:

  alias k='nsenter --net=${controlPlane.namespace.path} ${program("kubectl")} --kubeconfig ${kubeconfig("admin")}'
  k get nodes,pods -A -o wide
  k -n kube-system exec ds/fairway -- fairway peers

Logs: ${folders.logs}. Ctrl-C removes the cluster.`);
		await new Promise((resolve) => setInterval(resolve, 1 << 30).ref());
	} finally {
		await cluster.down();
	}
}

if (values.help) say(usage);
else
	try {
		await main();
	} catch (error) {
		process.stderr.write(`fairway: ${(error as Error).message}\n`);
		process.exit(error instanceof ClusterTaken ? 2 : 1);
	}
