/**
 * The `fairway` command: defines the subcommands with their arguments, and turns errors into exit statuses. The
 * code of a command is loaded when it runs, so that each starts quickly.
 */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { ApiError, agentVersion } from "../api/client.js";
import type { PeerStatus } from "../api/messages/peers.js";
import { CNI_CONF_DIR } from "../cni/conf_dir.js";
import { version } from "../text/version.js";
import { EXIT_DONE, EXIT_FAILED, EXIT_STATUSES, EXIT_USAGE, UsageError } from "./exit.js";

const RUN_DIR = "/run/fairway";
const PIN_DIR = "/sys/fs/bpf/fairway";
const PATHS: readonly PeerStatus["path"][] = ["direct", "routed", "geneve", "vxlan", "down"];

/** Returns the exit status; never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
	process.stdout.on("error", onOutputError);
	// The lab parses its own options, which may include a user's command.
	if (argv[0] === "lab") {
		return run(async () => (await import("./lab.js")).labCommand(argv.slice(1)));
	}
	return run(async () => {
		let status = EXIT_DONE;
		const program = commands((result) => {
			status = result;
		});
		await program.parseAsync(argv, { from: "user" });
		return status;
	});
}

/** A closed pipe is not a failure: `fairway peers | head -1`. */
function onOutputError(error: NodeJS.ErrnoException): void {
	if (error.code !== "EPIPE") {
		throw error;
	}
}

async function run(command: () => Promise<number>): Promise<number> {
	try {
		return await command();
	} catch (error) {
		if (error instanceof CommanderError) {
			// Commander has already printed the error.
			return error.exitCode === 0 ? EXIT_DONE : EXIT_USAGE;
		}
		process.stderr.write(`fairway: ${words(error)}\n`);
		return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
	}
}

/** An agent that has not been restarted since an upgrade may answer with less than this command reads, or not know it. */
function words(error: unknown): string {
	const message = error instanceof Error ? error.message : String(error);
	const agent = agentVersion();
	const isUnknown = error instanceof ApiError && /^Cannot (GET|POST) \//.test(message);
	if (!(isUnknown || error instanceof TypeError)) return message;
	if (agent === undefined || agent === version()) return message;
	const what = isUnknown ? message : `Cannot read the agent's answer: ${message}`;
	const its = agent === "" ? "an earlier version" : `version ${agent}`;
	return `${what} (the agent is ${its}, this command ${version()}: restart the agent, or use the command of its version)`;
}

/** @param done called with the exit status of the command that has run */
export function commands(done: (status: number) => void): Command {
	const program = new Command("fairway")
		.description("Carry Kubernetes Pod traffic between Nodes: directly or in a tunnel.")
		.version(version(), "-V, --version", "print the version")
		.configureOutput({
			outputError: (text, write) => write(text.replace(/^error: /, "fairway: ")),
		})
		.addHelpText("after", `\n${EXIT_STATUSES}`)
		.exitOverride();

	program
		.command("agent")
		.description("run the Node agent in this network namespace")
		.requiredOption("--node-name <name>", "this Node's name in the cluster")
		.requiredOption("--config <file>", "configuration (YAML), watched for changes")
		.option("--manifests <dir>", "directory of Kubernetes manifests, watched for changes")
		.option(
			"--kubeconfig <file>",
			"access to the Kubernetes API; in a Pod without either option: its service account",
		)
		.option(
			"--cni-conf-dir <dir>",
			`keep 05-fairway.conflist in this directory of the container runtime, "" for none (default: ${CNI_CONF_DIR}, none with --manifests)`,
		)
		.addOption(runDir())
		.addOption(pinDir())
		.action(async (options) => done(await (await import("./agent.js")).agentCommand(options)));

	program
		.command("status")
		.description("show the agent's status")
		.option(
			"--wait [seconds]",
			"wait until the agent is ready, 30 seconds by default; exit with 3 if it is not by then",
			waitTime,
		)
		.addOption(runDir())
		.addOption(output())
		.action(async ({ wait, ...options }) => {
			const seconds = wait === true ? { wait: 30 } : wait === undefined ? {} : { wait };
			done(await (await import("./status.js")).statusCommand({ ...options, ...seconds }));
		});

	program
		.command("peers")
		.description("list peers: path, MTU, round trip, loss and reason")
		.option("--peer <node>", "show this peer only; may be repeated", names)
		.option("--path <path>", `show this path only (${PATHS.join(", ")}); may be repeated`, paths)
		.addOption(runDir())
		.addOption(output(["text", "wide", "json"]))
		.action(async (options) => done(await (await import("./peers.js")).peersCommand(options)));

	program
		.command("endpoints")
		.description("list local Pods")
		.addOption(runDir())
		.addOption(output())
		.action(async (options) =>
			done(await (await import("./endpoints.js")).endpointsCommand(options)),
		);

	program
		.command("services")
		.description("list the Services that Fairway serves, with their backends")
		.argument("[service]", "NAMESPACE/NAME: this Service only, with all of its backends")
		.addOption(runDir())
		.addOption(output(["text", "wide", "json"]))
		.action(async (service, options) =>
			done(await (await import("./services.js")).servicesCommand(service, options)),
		);

	program
		.command("policies")
		.description(
			"list the network policies that select a Pod of this Node, and the packets that they have denied",
		)
		.argument("[policy]", "NAMESPACE/NAME, or the name of a ClusterNetworkPolicy: this policy only")
		.addOption(runDir())
		.addOption(output())
		.action(async (policy, options) =>
			done(await (await import("./policies.js")).policiesCommand(policy, options)),
		);

	program
		.command("denials")
		.description(
			"list recent denials by network policy on this Node: both ends, port, policy and rule",
		)
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./denials.js")).denialsCommand(options)));

	program
		.command("events")
		.description("list the last path changes, newest last")
		.option("--peer <node>", "show this peer only", name)
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./events.js")).eventsCommand(options)));

	program
		.command("check")
		.description(
			"probe every path to the peers and show what each traffic mode would do; changes nothing",
		)
		.option("--peer <node>", "check this peer only; may be repeated", names)
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./check.js")).checkCommand(options)));

	program
		.command("explain")
		.description("show what would happen to a packet, and why; sends nothing")
		.argument(
			"<source>",
			"address of a Pod, of this Node or of any host, or NAMESPACE/NAME of a Pod; with :PORT",
		)
		.argument(
			"<destination>",
			"the same, or NAMESPACE/NAME of a Service; IPv6 with a port: [ADDRESS]:PORT",
		)
		.addOption(
			new Option(
				"--proto <protocol>",
				"transport protocol (default: tcp, or that of the Service's port)",
			).choices(["tcp", "udp", "icmp"]),
		)
		.addOption(runDir())
		.addOption(output())
		.action(async (source, destination, options) =>
			done(await (await import("./explain.js")).explainCommand(source, destination, options)),
		);

	const config = program.command("config").description("validate and describe configurations");
	config
		.command("validate")
		.description("validate a configuration file")
		.argument("<file>", "the configuration (YAML)")
		.addOption(output())
		.action(async (file, options) =>
			done(await (await import("./config.js")).validateCommand(file, options)),
		);
	config
		.command("schema")
		.description("print the configuration's JSON Schema")
		.addOption(output())
		.action(async () => done(await (await import("./config.js")).schemaCommand()));

	const policy = program.command("policy").description("examine network policies");
	policy
		.command("check")
		.description(
			"report policies in a file that cannot be used, match nothing or have no effect; needs no agent",
		)
		.argument("<file>", "manifests with NetworkPolicies and ClusterNetworkPolicies")
		.option("--manifests <path>", "file or directory with the Pods and Namespaces to select from")
		.addOption(output())
		.action(async (file, options) =>
			done(await (await import("./policy.js")).policyCheckCommand(file, options)),
		);

	policy
		.command("diff")
		.description(
			"show the connections that would be allowed or denied if these policies were applied, or deleted: between Pods, and the live flows of this Node; changes nothing",
		)
		.argument("[file]", "manifests with NetworkPolicies and ClusterNetworkPolicies to apply")
		.option(
			"--delete <policy>",
			"NAMESPACE/NAME, or the name of a ClusterNetworkPolicy, to delete; may be repeated",
			(policy, former: string[] = []) => [...former, policy],
		)
		.addOption(runDir())
		.addOption(output(["text", "wide", "json"]))
		.action(async (file, options) =>
			done(await (await import("./policy.js")).policyDiffCommand(file, options)),
		);

	program
		.command("install")
		.description("prepare a Node for the agent: what the init containers of deploy/fairway.yaml do")
		.option("--cni-bin-dir <dir>", "copy the CNI plugin there, and loopback and portmap if missing")
		.option("--bpffs <dir>", "mount the BPF file system there if it is not mounted")
		.action(async (options) => done(await (await import("./install.js")).installCommand(options)));

	program
		.command("cleanup")
		.description(
			"remove every kernel object that Fairway made on this Node, Pod interfaces included",
		)
		.option("--dry-run", "say what would be removed, and remove nothing")
		.addOption(
			new Option("--cni-conf-dir <dir>", "directory that 05-fairway.conflist is removed from")
				.default(CNI_CONF_DIR)
				.argParser(directory),
		)
		.addOption(runDir())
		.addOption(pinDir())
		.action(async (options) => done(await (await import("./cleanup.js")).cleanupCommand(options)));

	program
		.command("lab")
		.description("run a cluster in network namespaces on this machine (`fairway lab --help`)")
		.addArgument(new Argument("[arguments...]", "a command of the lab, and what it takes"));
	const point = (command: Command, names: string): void => {
		command.showHelpAfterError(`See \`${names} --help\`.`);
		for (const inner of command.commands) point(inner, `${names} ${inner.name()}`);
	};
	point(program, "fairway");
	return program;
}

function runDir(): Option {
	return new Option("--run-dir <dir>", "the agent's run directory")
		.default(RUN_DIR)
		.argParser(directory);
}

function pinDir(): Option {
	return new Option("--pin-dir <dir>", "directory of the pinned BPF objects")
		.default(PIN_DIR)
		.argParser(directory);
}

function output(formats: readonly string[] = ["text", "json"]): Option {
	return new Option("-o, --output <format>", "output format").choices(formats).default("text");
}

/** "30", "0.5", "30s" */
function waitTime(text: string): number {
	const [, number] = /^(\d{1,9}(?:\.\d+)?)s?$/.exec(text) ?? [];
	if (number === undefined) {
		throw new InvalidArgumentError("Expected a number of seconds.");
	}
	return Number(number);
}

function name(node: string): string {
	if (node.trim() === "") {
		throw new InvalidArgumentError("Expected the name of a Node, got nothing.");
	}
	return node;
}

function names(node: string, former: string[] = []): string[] {
	return [...former, name(node)];
}

function paths(text: string, former: PeerStatus["path"][] = []): PeerStatus["path"][] {
	const path = PATHS.find((known) => known === text);
	if (path === undefined) {
		throw new InvalidArgumentError(`Allowed choices are ${PATHS.join(", ")}.`);
	}
	return [...former, path];
}

function directory(path: string): string {
	if (path.trim() === "") {
		throw new InvalidArgumentError("Expected a directory, got nothing.");
	}
	return path;
}
