/** `fairway agent` */
import { resolve } from "node:path";
import type { Agent, AgentOptions } from "../agent/agent.js";
import { keepHeapSmall, trimRegularly } from "../agent/heap.js";
import { openLog } from "../agent/log.js";
import { ServiceManager } from "../agent/service_manager.js";
import { UnhandledErrors } from "../agent/unhandled_errors.js";
import { CNI_CONF_DIR } from "../cni/conf_dir.js";
import { formatConfigError } from "../config/config.js";
import { readConfig } from "../config/parse.js";
import { proxyWarnings } from "../config/proxy_rule.js";
import { kubeconfig as readKubeconfig } from "../kube/kubeconfig.js";
import { serviceAccount } from "../kube/service_account.js";
import { type Log, withComponent } from "../text/log.js";
import { version } from "../text/version.js";
import { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, UsageError } from "./exit.js";
import { stopInTime } from "./stop.js";

export interface AgentCommandOptions {
	nodeName: string;
	config: string;
	manifests?: string;
	kubeconfig?: string;
	runDir: string;
	pinDir: string;
	cniConfDir?: string;
}

/** Runs until SIGTERM or SIGINT. */
export async function agentCommand(options: AgentCommandOptions): Promise<number> {
	const cluster = await clusterOf(options);
	keepHeapSmall();
	trimRegularly();
	if (process.getuid?.() !== 0) {
		throw new UsageError("Cannot run the agent: must run as root");
	}
	const result = await readConfig(options.config);
	if ("errors" in result) {
		process.stderr.write(result.errors.map((error) => `${formatConfigError(error)}\n`).join(""));
		return EXIT_USAGE;
	}

	const log = openLog(options.nodeName, result.config.log.level);
	let agent: Agent | undefined;
	const unhandled = new UnhandledErrors({
		log,
		resync: () => agent?.resync(),
		giveUp: () => process.exit(EXIT_FAILED),
	});
	process.on("unhandledRejection", (error) => unhandled.take("unhandled rejection", error));
	process.on("uncaughtException", (error) => unhandled.take("uncaught exception", error));

	const stopped = new Promise<NodeJS.Signals>((stop) => {
		process.on("SIGTERM", stop);
		process.on("SIGINT", stop);
	});
	const manager = ServiceManager.of({
		...{ environment: process.env, pid: process.pid },
		log: withComponent(log, "service manager"),
	});
	// One that comes earlier changes nothing: everything is about to be read.
	process.on("SIGHUP", () => agent && void reload(agent, manager, log));
	log.info({ version: version(), pid: process.pid }, "starting");
	for (const warning of proxyWarnings(result.config, process.env))
		log.warn({ warning }, "configuration with a limitation");
	const { Agent: NodeAgent } = await import("../agent/agent.js");
	try {
		agent = await NodeAgent.start({
			nodeName: options.nodeName,
			configFile: resolve(options.config),
			config: result.config,
			cluster,
			runDir: resolve(options.runDir),
			pinDir: resolve(options.pinDir),
			cniConfDir: cniConfDirOf(options),
			log,
			onReady: () => manager?.tick(),
		});
	} catch (error) {
		log.fatal({ err: error }, "cannot start");
		process.stderr.write(`fairway: ${error instanceof Error ? error.message : String(error)}\n`);
		// Open handles must not keep the process alive.
		process.exit(EXIT_FAILED);
	}
	const running = agent;
	manager?.follow(() => running.serviceState());
	const signal = await stopped;
	manager?.stopping();
	log.info({ signal }, "stopping; forwarding continues");
	if (await stopInTime(() => running.stop(), log)) log.info({}, "stopped");
	// A forgotten handle must not keep a stopped agent alive.
	process.exit(EXIT_DONE);
}

/** Changes are noticed without it: this is for callers that wait until they are in force. */
async function reload(agent: Agent, manager: ServiceManager | undefined, log: Log): Promise<void> {
	log.info({ signal: "SIGHUP" }, "reading configuration and manifests again");
	manager?.reloading();
	try {
		await agent.reload();
	} catch (err) {
		log.warn({ err }, "cannot apply what was read again, will retry");
	}
	manager?.reloaded();
}

/** With a directory of manifests the container runtime may be anywhere, or none. */
function cniConfDirOf({ cniConfDir, manifests }: AgentCommandOptions): string {
	const dir = cniConfDir ?? (manifests === undefined ? CNI_CONF_DIR : "");
	return dir === "" ? "" : resolve(dir);
}

/** @throws UsageError when the source of the cluster's objects is missing, or cannot be used at all */
async function clusterOf({
	manifests,
	kubeconfig,
}: AgentCommandOptions): Promise<AgentOptions["cluster"]> {
	if (manifests !== undefined && kubeconfig !== undefined)
		throw new UsageError(
			"Cannot run the agent: expected one of --manifests DIR and --kubeconfig FILE, got both",
		);
	if (manifests !== undefined) return { manifests: resolve(manifests) };
	try {
		if (kubeconfig !== undefined) {
			const read = readKubeconfig(resolve(kubeconfig));
			// Errors in it are reported at once; later ones, in status.
			await read();
			return { kubernetes: read };
		}
		const read = serviceAccount();
		if (read !== undefined) return { kubernetes: read };
	} catch (error) {
		throw new UsageError((error as Error).message);
	}
	throw new UsageError(
		"Cannot run the agent: expected --manifests DIR, --kubeconfig FILE or, in a Pod, KUBERNETES_SERVICE_HOST, got none of them",
	);
}
