/** `fairway lab`: a cluster in network namespaces on this machine. */
import { once } from "node:events";
import { parseArgs } from "node:util";
import { onInterrupt } from "../lab/interrupt.js";
import { Lab } from "../lab/lab.js";
import { pingAll, reachTable } from "../lab/reach.js";
import { allStates, isAbandoned, readState, remove, type State } from "../lab/state.js";
import { framedTable, painters } from "../text/table.js";
import { LAB_USAGE } from "./lab_usage.js";

interface Options {
	name: string;
	manifests?: string;
	config?: string;
	output: string;
	all: boolean;
}

/** @param argv the words after `lab`. @returns the exit status. */
export async function labCommand(argv: string[]): Promise<number> {
	const [command, ...rest] = argv;
	if (rest[0] === "--help" || rest[0] === "-h") {
		process.stdout.write(LAB_USAGE);
		return 0;
	}
	try {
		// The words after the machine's name belong to the command that runs there.
		const own = command === "exec" ? ownWords(rest) : rest;
		const { values, positionals } = parse(own);
		const foreign = command === "exec" ? rest.slice(own.length) : [];
		switch (command) {
			case "up":
				return await up(none(positionals, values));
			case "down":
				return await down(none(positionals, values));
			case "status":
				return await status(none(positionals, values));
			case "exec":
				return await exec(values, positionals[0], foreign);
			case "ping":
				return await ping(none(positionals, values));
			case "--help":
			case "-h":
			case "help":
				process.stdout.write(LAB_USAGE);
				return 0;
			default:
				throw new UsageError(`Cannot run "${command ?? ""}": expected one of the commands below`);
		}
	} catch (error) {
		if (error instanceof UsageError) {
			process.stderr.write(`fairway: ${error.message}\n\n${LAB_USAGE}`);
			return 2;
		}
		process.stderr.write(`fairway: ${(error as Error).message}\n`);
		return 1;
	}
}

class UsageError extends Error {}

async function up({ name, manifests, config }: Options): Promise<number> {
	const began = performance.now();
	const lab = await Lab.prepare({
		name,
		detached: true,
		...(manifests === undefined ? {} : { manifests }),
		...(config === undefined ? {} : { config }),
	});
	onInterrupt(() => lab.down());
	await lab.start((what) => process.stdout.write(`Bringing up ${what}\n`));
	process.stdout.write(
		`Lab ${name} is up after ${((performance.now() - began) / 1000).toFixed(1)} s. Changes of ${lab.manifests} ` +
			`and ${lab.config} apply while it runs.\n` +
			`Run directories: ${lab.directory}/NODE/run, for \`fairway peers --run-dir\`.\n`,
	);
	return 0;
}

/** Removes the lab of that name, and those that ended without removing their objects. */
async function down({ name, all }: Options): Promise<number> {
	const doomed = allStates().filter((state) => all || state.name === name || isAbandoned(state));
	for (const state of doomed) {
		await remove(state);
		process.stdout.write(`Removed lab ${state.name}\n`);
	}
	if (doomed.length === 0) process.stdout.write(`There is no lab ${name}\n`);
	return 0;
}

async function status({ name, output }: Options): Promise<number> {
	if (output !== "json" && readState(name) === undefined) return listLabs(name, allStates());
	const lab = await Lab.open(name);
	const { nodes, subnets, outside } = lab.topology;
	const machines = [...lab.underlay.machines.values()].map(({ name: machine, role, namespace }) => {
		const node = nodes.find((known) => known.name === machine);
		const pod = lab.topology.pods.find(({ label }) => label === machine);
		const agent = lab.agents.get(machine);
		return {
			machine,
			role,
			namespace: namespace.name,
			node: pod?.node,
			addresses:
				node?.addresses ??
				subnets.find((subnet) => subnet.name === machine)?.networks ??
				(machine === "outside"
					? outside?.addresses
					: Object.values(lab.attachments.get(machine)?.addresses ?? {})),
			runDir: agent?.runDirectory,
			pinDir: agent?.pinDirectory,
		};
	});
	if (output === "json") {
		const state = { name, manifests: lab.manifests, config: lab.config, machines };
		process.stdout.write(`${JSON.stringify(state, null, 2)}\n`);
		return 0;
	}
	type Row = (typeof machines)[number];
	const columns = [
		{ heading: "machine", cell: (row: Row) => row.machine },
		{ heading: "role", cell: (row: Row) => row.role },
		{ heading: "on", cell: (row: Row) => row.node ?? "" },
		{ heading: "addresses", cell: (row: Row) => row.addresses?.join(" ") ?? "" },
		{ heading: "namespace", cell: (row: Row) => row.namespace },
		{ heading: "run directory", cell: (row: Row) => row.runDir ?? "" },
	];
	process.stdout.write(`${framedTable(columns, [{ rows: machines }], painters(terminal()))}\n`);
	return 0;
}

function listLabs(name: string, labs: State[]): number {
	process.stderr.write(`There is no lab ${name}.${labs.length > 0 ? " Labs here:" : ""}\n`);
	for (const lab of labs)
		process.stderr.write(
			`  ${lab.name}${isAbandoned(lab) ? ", left by a process that died" : ""}\n`,
		);
	return 1;
}

async function exec(
	{ name }: Options,
	machine: string | undefined,
	command: string[],
): Promise<number> {
	if (machine === undefined || command.length === 0)
		throw new UsageError("Cannot run a command: expected a machine and a command");
	const lab = await Lab.open(name);
	const child = lab.namespace(machine).spawn(command, { stdio: "inherit" });
	// The terminal also sends Ctrl-C to the command, which handles it.
	process.on("SIGINT", () => undefined);
	const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
	return code ?? (signal === "SIGINT" ? 130 : 1);
}

async function ping({ name, output }: Options): Promise<number> {
	const reaches = await pingAll(await Lab.open(name));
	const lost = reaches.filter(({ roundTrip }) => roundTrip === undefined);
	if (output === "json") {
		const rows = reaches.map(({ pair, roundTrip }) => ({ ...pair, roundTrip: roundTrip ?? null }));
		process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
	} else
		process.stdout.write(
			`${reachTable(reaches, terminal())}\n${reaches.length - lost.length} of ${reaches.length} pairs reached each other\n`,
		);
	return lost.length === 0 ? 0 : 1;
}

/** The words up to the machine's name, which is the first word that is not an option. */
function ownWords(words: string[]): string[] {
	let length = 0;
	while (words[length]?.startsWith("-")) length += words[length]?.includes("=") ? 1 : 2;
	return words.slice(0, length + 1);
}

function parse(args: string[]): { values: Options; positionals: string[] } {
	try {
		const { values, positionals } = parseArgs({
			args,
			allowPositionals: true,
			options: {
				name: { type: "string", default: "fairway-lab" },
				manifests: { type: "string" },
				config: { type: "string" },
				output: { type: "string", short: "o", default: "text" },
				all: { type: "boolean", default: false },
			},
		});
		// "table" is the former name of "text".
		if (!["text", "table", "json"].includes(values.output))
			throw new Error(`Cannot print as "${values.output}": expected text or json`);
		if (!/^[a-z0-9][a-z0-9-]{0,30}$/.test(values.name))
			throw new Error(
				`Cannot name a lab "${values.name}": expected lower-case letters, digits and hyphens, 31 at most`,
			);
		return { values: values as Options, positionals };
	} catch (error) {
		throw new UsageError((error as Error).message);
	}
}

function none(positionals: string[], values: Options): Options {
	if (positionals.length > 0)
		throw new UsageError(`Cannot use "${positionals[0]}": expected options only`);
	return values;
}

function terminal(): boolean {
	return process.stdout.isTTY === true;
}
