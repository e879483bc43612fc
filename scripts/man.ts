// man/fairway.8: the manual page, from the definitions that `fairway --help` is printed from.
import type { Argument, Command, Option } from "commander";
import { EXIT_STATUSES } from "../src/cli/exit.js";
import { LAB_USAGE } from "../src/cli/lab_usage.js";
import { commands } from "../src/cli/main.js";

const DESCRIPTION = [
	"Fairway is a Kubernetes dataplane in eBPF. Its agent runs on every Node. It sends packets between Pods directly over the Node network where probes prove that this works, and in a Geneve or VXLAN tunnel everywhere else.",
	"`fairway agent` runs the agent. The other commands ask a running agent through a socket in its run directory, unless their description says that they need none. Packets are forwarded while the agent is stopped.",
];

const FILES = [
	[
		"/run/fairway",
		"run directory: lock, socket of the agent, Pods, last known state of paths and policies",
	],
	["/sys/fs/bpf/fairway", "pinned BPF programs, maps and links"],
	[
		"/etc/cni/net.d/05-fairway.conflist",
		"configuration of the container runtime, written when the agent is ready",
	],
	["/opt/cni/bin/fairway-cni", "the CNI plugin"],
] as const;

const ENVIRONMENT = [
	[
		"NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
		"As in sd_notify(3): the agent reports that it is ready, what it waits for, reloads and its end, and feeds the watchdog.",
	],
	[
		"FAIRWAY_API_SERVER",
		"URL of an API server that is used in place of the address of its Service, in a Pod without `--kubeconfig`.",
	],
	[
		"ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY",
		"true: `fairwayProxy.enable: false` is a warning in modes hybrid and noEncap, no refusal.",
	],
] as const;

const SIGNALS = [
	["SIGTERM, SIGINT", "The agent stops; forwarding continues. A second one ends it at once."],
	["SIGHUP", "The agent reads configuration and manifests again. Changes are noticed without it."],
] as const;

/** @param version of package.json */
export function manualPage(version: string): string {
	const program = commands(() => undefined);
	return [
		'.\\" Generated from src/cli/main.ts by `npm run generate`.',
		`.TH FAIRWAY 8 "" "Fairway ${version}" "System Administration"`,
		".SH NAME",
		`fairway \\- ${text(sentence(program.description()).replace(/\.$/, ""))}`,
		".SH SYNOPSIS",
		".B fairway",
		".I COMMAND",
		"[\\fIoptions\\fR]",
		".br",
		".B fairway \\-\\-help",
		"|",
		".B \\-\\-version",
		".SH DESCRIPTION",
		...DESCRIPTION.flatMap((paragraph) => [".PP", text(paragraph)]),
		".SH COMMANDS",
		...program.commands.flatMap((command) => section(command, ["fairway"])),
		".SH EXIT STATUS",
		...statuses(),
		".SH SIGNALS",
		...entries(SIGNALS),
		".SH ENVIRONMENT",
		...entries(ENVIRONMENT),
		".SH FILES",
		...entries(FILES),
		".SH SEE ALSO",
		".BR ip (8),",
		".BR bpftool (8),",
		".BR systemd.service (5)",
		"",
	].join("\n");
}

function section(command: Command, parents: readonly string[]): string[] {
	const names = [...parents, command.name()];
	if (command.name() === "lab")
		return [
			`.SS ${bold("fairway lab")}`,
			text(sentence(command.description())),
			...verbatim(LAB_USAGE),
		];
	const own = command.registeredArguments;
	const usage = [
		bold(names.join(" ")),
		...own.map((one) =>
			one.required ? `\\fI${text(one.name())}\\fR` : `[\\fI${text(one.name())}\\fR]`,
		),
		...(command.options.length === 0 ? [] : ["[\\fIoptions\\fR]"]),
	];
	if (command.commands.length > 0)
		return command.commands.flatMap((inner) => section(inner, names));
	return [
		`.SS ${usage.join(" ")}`,
		text(sentence(command.description())),
		...own.filter(({ description }) => description !== "").flatMap(argumentText),
		...command.options.flatMap(optionText),
	];
}

function argumentText(argument: Argument): string[] {
	return [".TP", `\\fI${text(argument.name())}\\fR`, text(sentence(argument.description))];
}

function optionText(option: Option): string[] {
	const { flags, description, mandatory, argChoices, defaultValue } = option;
	const facts = [
		...(mandatory ? ["Required."] : []),
		...(argChoices === undefined ? [] : [`One of ${argChoices.join(", ")}.`]),
		...(defaultValue === undefined ? [] : [`Default: ${String(defaultValue)}.`]),
	];
	const shown = flags.replace(/<(\w+)>|\[(\w+)\]/g, (_, must?: string, may?: string) =>
		must === undefined ? `[${may?.toUpperCase()}]` : must.toUpperCase(),
	);
	return [".TP", bold(shown), text([sentence(description), ...facts].join(" "))];
}

function statuses(): string[] {
	return EXIT_STATUSES.split("\n")
		.slice(1)
		.flatMap((line) => {
			const [, status = "", meaning = ""] = /^\s+(\d+)\s+(.*)$/.exec(line) ?? [];
			return [".TP", `.B ${status}`, text(sentence(meaning))];
		});
}

function entries(list: readonly (readonly [string, string])[]): string[] {
	return list.flatMap(([name, meaning]) => [".TP", bold(name), text(sentence(meaning))]);
}

function verbatim(lines: string): string[] {
	return [".PP", ".nf", ...lines.trimEnd().split("\n").map(plain), ".fi"];
}

function bold(words: string): string {
	return `\\fB${plain(words)}\\fR`;
}

/** A sentence of it: capital and full stop. */
function sentence(words: string): string {
	const text = `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
	return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** With `words` in backquotes in bold. */
function text(words: string): string {
	return plain(words).replace(/`([^`]+)`/g, "\\fB$1\\fR");
}

/** What roff would take for requests or escapes is text. */
function plain(words: string): string {
	return words
		.replaceAll("\\", "\\e")
		.replaceAll("-", "\\-")
		.replace(/^([.'])/, "\\&$1");
}
