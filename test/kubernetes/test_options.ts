/** The options of npm run test:cluster. */
import { parseArgs } from "node:util";
import { Refusal } from "../../scripts/step.mjs";
import { modes } from "./agents.js";
import { isPlain, type Network, networks, type ServiceProxy, serviceProxies } from "./network.js";
import { suiteNames } from "./suites.js";

/** Suites of this project's own. They change modes themselves. */
export const ownSuites = [
	...["client", "smoke", "policies", "forbidden", "host-ports", "routing", "handover"],
	"life-cycle",
] as const;
const defaultSuites = ["smoke", "conformance", "pods"];

export const usage = `Usage: npm run test:cluster [-- OPTIONS]

Brings up a Kubernetes of three Nodes on this machine, runs suites on it, and removes it. Prints TAP. The exit status
is 0 if everything passed, 1 if not, and 2 if nothing could be run.

  --mode MODE       ${networks.join(", ")}; may be repeated: ${modes.join(", ")} run one after
                    the other on one cluster (default: these three)
  --services PROXY  who serves Services: ${serviceProxies.join(" or ")} (default fairway; plain and kube-router always
                    have kube-proxy)
  --suite SUITE     may be repeated (default: ${defaultSuites.join(", ")}). Of others, in each mode:
                    ${suiteNames.slice(0, 6).join(", ")},
                    ${suiteNames.slice(6).join(", ")}.
                    Our own, once: ${ownSuites.slice(0, 5).join(", ")},
                    ${ownSuites.slice(5).join(", ")}
  --together        the suites of others run at the same time: they know nothing of each other
  --procs N         upstream's specs at once (default 4)
  --record          write the results of complete suites to docs/CONFORMANCE.md

Parts of suites, which are never recorded:
  --cases REGEX     only these cases of cyclonus
  --focus REGEX     upstream's specs of these names, instead of suites
  --labels QUERY    upstream's specs with these labels, instead of suites, as in 'sig-network && !Slow'; not those that
                    left_out.ts leaves out
  --skip REGEX      not those of these names
  --minutes N       those that have not ended by then have failed, or did not run (default 120)
  --write-suite S   the selected specs that passed become the suite S

  --help

FIRST_FAMILY=6 in the environment makes IPv6 the cluster's first family.
`;

export interface TestOptions {
	help: boolean;
	networks: Network[];
	proxy: ServiceProxy;
	suites: string[];
	together: boolean;
	procs: number;
	record: boolean;
	/** A regular expression over names; "": all. */
	cases: string;
	/** Upstream's specs instead of suites. */
	selection: { focus: string; labels: string; skip: string | undefined } | undefined;
	minutes: number;
	writeSuite: string | undefined;
}

/** @throws Refusal with a sentence for the user */
export function testOptions(args: readonly string[]): TestOptions {
	const values = parsed(args);
	const selected = chosen<Network>("mode", values.mode ?? modes, networks);
	const plain = selected.some(isPlain);
	const suites = chosen("suite", values.suite ?? defaultSuites, [...ownSuites, ...suiteNames]);
	const [proxy] = chosen<ServiceProxy>("services", [values.services], serviceProxies);
	const { focus, labels, skip } = values;
	const selection =
		focus === undefined && labels === undefined
			? undefined
			: { focus: focus ?? "", labels: labels ?? "", skip };
	if (plain && selected.length > 1)
		throw new Refusal(
			`Cannot run ${selected.join(" and ")} on one cluster: expected plain or kube-router alone.`,
		);
	const own = ownSuites.filter((one) => values.suite?.includes(one) && one !== "client");
	if (plain && own.length > 0)
		throw new Refusal(`Cannot run ${own.join(", ")} with ${selected[0]}: it tests Fairway.`);
	if (values["write-suite"] !== undefined && selection === undefined)
		throw new Refusal("Cannot write a suite: expected --focus or --labels with --write-suite.");
	if (values.record && (selection !== undefined || values.cases !== ""))
		throw new Refusal(
			"Cannot record parts of suites: expected --record without --focus, --labels and --cases.",
		);
	for (const name of ["cases", "focus", "skip"] as const) checkPattern(name, values[name] ?? "");
	return {
		help: values.help,
		networks: selected,
		proxy: plain ? "kube-proxy" : proxy!,
		suites,
		together: values.together,
		procs: positive("procs", values.procs),
		record: values.record,
		cases: values.cases,
		selection,
		minutes: positive("minutes", values.minutes),
		writeSuite: values["write-suite"],
	};
}

function parsed(args: readonly string[]) {
	try {
		return parseArgs({
			args: [...args],
			options: {
				mode: { type: "string", multiple: true },
				suite: { type: "string", multiple: true },
				labels: { type: "string" },
				focus: { type: "string" },
				skip: { type: "string" },
				cases: { type: "string", default: "" },
				minutes: { type: "string", default: "120" },
				services: { type: "string", default: "fairway" },
				"write-suite": { type: "string" },
				procs: { type: "string", default: "4" },
				together: { type: "boolean", default: false },
				record: { type: "boolean", default: false },
				help: { type: "boolean", default: false },
			},
		}).values;
	} catch (error) {
		throw new Refusal(`Cannot read the options: ${(error as Error).message}`);
	}
}

function chosen<T extends string>(
	option: string,
	given: readonly string[],
	known: readonly T[],
): T[] {
	for (const one of given)
		if (!known.includes(one as T))
			throw new Refusal(`Cannot use --${option} ${one}: expected one of ${known.join(", ")}.`);
	return known.filter((one) => given.includes(one));
}

function positive(option: string, text: string): number {
	if (/^[1-9]\d*$/.test(text)) return Number(text);
	throw new Refusal(`Cannot use --${option} ${text}: expected a positive whole number.`);
}

function checkPattern(option: string, text: string): void {
	try {
		new RegExp(text);
	} catch (error) {
		throw new Refusal(`Cannot use --${option}: ${(error as Error).message}.`);
	}
}
