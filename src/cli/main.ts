/**
 * The `fairway` command: defines the subcommands with their arguments, and turns errors into exit statuses. The
 * code of a command is loaded when it runs, so that each starts quickly.
 */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { version } from "../agent/version.js";
import { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, UsageError } from "./exit.js";

const RUN_DIR = "/run/fairway";
const PIN_DIR = "/sys/fs/bpf/fairway";

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
		process.stderr.write(`fairway: ${error instanceof Error ? error.message : String(error)}\n`);
		return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
	}
}

function commands(done: (status: number) => void): Command {
	const program = new Command("fairway")
		.description("Carries Kubernetes Pod traffic between Nodes: direct or in a tunnel.")
		.version(version(), "-V, --version", "print the version")
		.showHelpAfterError("(`fairway --help` says more)")
		.exitOverride();

	program
		.command("agent")
		.description("run the Node agent in this network namespace")
		.requiredOption("--node-name <name>", "this Node's name in the cluster")
		.requiredOption("--config <file>", "configuration (YAML), watched for changes")
		.option(
			"--manifests <dir>",
			"Kubernetes manifests to take the cluster from, watched for changes",
		)
		.option(
			"--kubeconfig <file>",
			"the Kubernetes API to take the cluster from (coming, not yet there)",
		)
		.addOption(runDir())
		.addOption(pinDir())
		.action(async (options) => done(await (await import("./agent.js")).agentCommand(options)));

	program
		.command("status")
		.description("the agent's health")
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./status.js")).statusCommand(options)));

	program
		.command("peers")
		.description("the other Nodes: path, reason, MTU, packets and bytes sent")
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./peers.js")).peersCommand(options)));

	program
		.command("endpoints")
		.description("the Pods of this Node")
		.addOption(runDir())
		.addOption(output())
		.action(async (options) =>
			done(await (await import("./endpoints.js")).endpointsCommand(options)),
		);

	program
		.command("events")
		.description("the last changes of paths to other Nodes, newest last")
		.option("--peer <node>", "only of this Node", name)
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./events.js")).eventsCommand(options)));

	program
		.command("check")
		.description(
			"which paths to the other Nodes work, and what each traffic mode would make of them; sends probes, changes nothing",
		)
		.option("--peer <node>", "only this Node", name)
		.addOption(runDir())
		.addOption(output())
		.action(async (options) => done(await (await import("./check.js")).checkCommand(options)));

	program
		.command("explain")
		.description("what would happen to a packet, and why; nothing is sent")
		.argument("<source>", "an address: of a Pod, of this Node or of anyone else; ADDRESS:PORT too")
		.argument("<destination>", "ADDRESS or ADDRESS:PORT, IPv6 with a port as [ADDRESS]:PORT")
		.addOption(
			new Option("--proto <protocol>", "of the packet")
				.choices(["tcp", "udp", "icmp"])
				.default("tcp"),
		)
		.addOption(runDir())
		.addOption(output())
		.action(async (source, destination, options) =>
			done(await (await import("./explain.js")).explainCommand(source, destination, options)),
		);

	const config = program.command("config").description("check and describe configurations");
	config
		.command("validate")
		.description("check a configuration file")
		.argument("<file>")
		.addOption(output())
		.action(async (file, options) =>
			done(await (await import("./config.js")).validateCommand(file, options)),
		);
	config
		.command("schema")
		.description("print the JSON Schema of the configuration")
		.addOption(output())
		.action(async () => done(await (await import("./config.js")).schemaCommand()));

	program
		.command("cleanup")
		.description(
			"remove every kernel object that Fairway made on this Node, Pod interfaces included",
		)
		.addOption(runDir())
		.addOption(pinDir())
		.action(async (options) => done(await (await import("./cleanup.js")).cleanupCommand(options)));

	program
		.command("lab")
		.description("a cluster in network namespaces on this machine (`fairway lab --help`)")
		.addArgument(new Argument("[arguments...]"));
	return program;
}

function runDir(): Option {
	return new Option("--run-dir <dir>", "the agent's run directory")
		.default(RUN_DIR)
		.argParser(directory);
}

function pinDir(): Option {
	return new Option("--pin-dir <dir>", "where BPF objects are pinned")
		.default(PIN_DIR)
		.argParser(directory);
}

function output(): Option {
	return new Option("-o, --output <format>", "how to print")
		.choices(["text", "json"])
		.default("text");
}

function name(node: string): string {
	if (node.trim() === "") {
		throw new InvalidArgumentError("Wanted the name of a Node, got nothing.");
	}
	return node;
}

function directory(path: string): string {
	if (path.trim() === "") {
		throw new InvalidArgumentError("Wanted a directory, got nothing.");
	}
	return path;
}
