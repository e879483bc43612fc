/**
 * Every program of the BPF object is accepted by the verifiers of Linux 6.1, 6.12 and this one, and
 * attaches there. Prints the verifiers' work as a table.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import t, { type Test } from "tap";
import type { Report } from "./inside/load.js";
import { bundle, kernel, runIn, TEST_MS } from "./kernel.js";

const PROGRAMS = [
	"from_host",
	"from_link",
	"from_loopback",
	"from_pod",
	"from_wire",
	"from_wire_xdp",
	"to_pod",
	"to_wire",
];
// The kernel's limit is a million. From here on the states of one stage multiply those of the next: cut it
// into functions that are verified once (`stage` in bpf/lib/context.h).
const INSTRUCTIONS_MAX = 160_000;

const modules = ["veth", "cls_bpf", "sch_ingress", "nf_conntrack"];
const command = ["unshare", "--net", process.execPath, await bundle("load")];

function parse(output: string): Report {
	const line = /^load: (.*)$/m.exec(output)?.[1];
	if (line === undefined) throw new Error(`Cannot read the report: no line of it in\n${output}`);
	return JSON.parse(line) as Report;
}

async function here(): Promise<Report> {
	const env = { ...process.env, NODE_OPTIONS: "" };
	const { stdout } = await promisify(execFile)(command[0]!, command.slice(1), { env });
	return parse(stdout);
}

async function guest(version: string): Promise<Report> {
	const { status, output, notes } = await runIn(await kernel(version), command, { modules });
	if (status !== 0)
		throw new Error(`Cannot load on Linux ${version}: exit ${status}\n${output}${notes}`);
	return parse(output);
}

function table({ kernel, tcx, decapL3, conntrack, loaded }: Report): string {
	const row = (cells: (string | number)[]) =>
		cells
			.map((cell, index) => (index < 2 ? String(cell).padEnd(14) : String(cell).padStart(13)))
			.join(" ");
	return [
		`Linux ${kernel}: tcx ${tcx ? "yes" : "no"}, DECAP_L3 ${decapL3 ? "yes" : "no"}, conntrack ${conntrack ? "yes" : "no"}`,
		row(["program", "knobs", "instructions", "verifier ms", "load ms"]),
		...loaded.map((one) =>
			row([
				one.program,
				one.knobs,
				one.instructions,
				one.verifierMs.toFixed(1),
				one.loadMs.toFixed(1),
			]),
		),
	].join("\n");
}

interface Ability {
	tcx: boolean;
	decapL3: boolean;
	conntrack: boolean;
}

async function check(t: Test, report: Report, ability?: Ability) {
	t.comment(`\n${table(report)}`);
	if (ability) t.match(report, ability);
	const seen = [...new Set(report.loaded.map(({ program }) => program))].sort();
	t.same(seen, PROGRAMS);
	for (const { program, knobs, refused, instructions, attached } of report.loaded) {
		t.equal(refused, undefined, `${program} (${knobs}) loads and attaches: ${attached}`);
		t.ok(instructions > 0 && instructions < INSTRUCTIONS_MAX, `${instructions} instructions`);
	}
}

t.setTimeout(TEST_MS);

t.test("this kernel", async (t) => check(t, await here()));

// Two guests at a time: each mostly uses one emulated thread.
t.test("other kernels", { jobs: 2 }, async (t) => {
	t.test("Linux 6.1", async (t) =>
		check(t, await guest("6.1"), { tcx: false, decapL3: false, conntrack: true }),
	);
	t.test("Linux 6.12", async (t) =>
		check(t, await guest("6.12"), { tcx: true, decapL3: true, conntrack: true }),
	);
});
