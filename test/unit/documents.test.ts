/** What documents say that can be compared with the code: names, numbers, commands, links. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { parseConfig } from "../../src/config/parse.js";
import { EVENTS_MAX } from "../../src/observe/path_events.js";
import { LIMITS } from "../../src/policy/limits.js";
import { DropReasonName, EventCounterName, Limit } from "../../src/tables/generated.js";

const top = fileURLToPath(new URL("../..", import.meta.url));
const read = (file: string) => readFileSync(join(top, file), "utf8");
/** Without line breaks, so that a sentence is one string. */
const textOf = (file: string) => read(file).replace(/\s+/g, " ");
const counted = (number: number) => number.toLocaleString("en-US");

t.test("docs/COUNTERS.md has every drop reason and event", async (t) => {
	const page = read("docs/COUNTERS.md");
	const names = [...Object.values(DropReasonName), ...Object.values(EventCounterName)];
	t.ok(names.length > 50);
	t.same(
		names.filter((name) => name !== "none" && !page.includes(`| \`${name}\` |`)),
		[],
	);
});

t.test("the README's numbers are those of the code", async (t) => {
	const parsed = parseConfig("", "config.yaml");
	if ("errors" in parsed) throw new Error("an empty configuration is invalid");
	const { probes, snat, fairwayProxy } = parsed.config;
	const { first, last } = snat.portRange;
	const text = textOf("README.md");
	const define = (file: string, name: string) =>
		Number(new RegExp(`${name}\\D+(\\d+)`).exec(read(file))?.[1]);
	for (const sentence of [
		`at most ${counted(Limit.ENDPOINTS_MAX)} Pod addresses and ${counted(Limit.PEERS_MAX)} peers`,
		`The flow table has ${counted(Limit.FLOWS_DEFAULT)} entries`,
		`\`probes.failoverTime\` (${probes.failoverTime / 1000} s)`,
		`\`probes.holdTime\` (${probes.holdTime} s)`,
		`\`probes.holdTimeMax\` (${probes.holdTimeMax} s)`,
		`\`snat.portRange\` (${first} to ${last})`,
		`fewer than ${counted(define("src/reconcile/host/reserved_ports.ts", "LOCAL_PORTS_LEAST"))} local ports`,
		`more than ${counted(define("bpf/port.bpf.c", "CLAIM_FLOWS_MAX"))} connections`,
		`${counted(define("bpf/port.bpf.c", "CLAIM_SPARE_MAX"))} unanswered or closed ones`,
		`lists the last ${counted(EVENTS_MAX)} path changes`,
		"beyond 4 MiB lines are dropped",
	])
		t.ok(text.includes(sentence), sentence);
	t.match(read("src/agent/log.ts"), "WAITING_MAX = 4 * 1024 * 1024");
	t.match(read("bpf/port.bpf.c"), "CLAIM_MS (300 * 1000)", "five minutes");
	t.equal(fairwayProxy.enable, true);
});

t.test("docs/POLICY.md has the limits of the code", async (t) => {
	const text = textOf("docs/POLICY.md");
	for (const row of [
		`different sets of policies that Pods have, ingress and egress together | ${counted(LIMITS.policies)} |`,
		`rules of these sets | ${counted(LIMITS.rules)}, of one Pod and direction ${counted(LIMITS.rulesOfPod)} |`,
		`different peers in these rules | ${counted(LIMITS.atoms)} |`,
		`addresses that selectors and Nodes name | ${counted(LIMITS.identities)} |`,
		`prefixes of blocks and excepts | ${counted(LIMITS.prefixes)} |`,
		`port ranges of a policy for one kind of peer | ${counted(LIMITS.ranges)} |`,
	])
		t.ok(text.includes(row), row);
});

t.test("the README has every command, and every option of status and peers", async (t) => {
	const text = read("README.md");
	const help = (...command: string[]) =>
		execFileSync(join(top, "bin/fairway"), [...command, "--help"], { encoding: "utf8" });
	/** Names in a list of commands. */
	const commands = (listed: string) =>
		[...listed.slice(listed.indexOf("Commands:")).matchAll(/^ {2}([a-z]+)/gm)].map(
			([, name]) => name,
		);
	const found = commands(help());
	t.ok(found.length > 10, found.join());
	const inner = new Set(["config", "policy"]);
	for (const name of found) {
		// What deploy/fairway.yaml calls, and commander's own.
		if (name === "install" || name === "help") continue;
		if (!inner.has(name!)) t.match(text, `\`fairway ${name}`, name ?? "");
		else
			for (const one of commands(help(name!)))
				if (one !== "help") t.match(text, `\`fairway ${name} ${one}`, `${name} ${one ?? ""}`);
	}
	for (const status of help().matchAll(/^ {2}(\d) {2}/gm))
		t.match(text, `| ${status[1]} | `, `exit status ${status[1]}`);
});

t.test("files and folders that documents name exist", async (t) => {
	const tracked = readdirSync(top, { withFileTypes: true }).flatMap((entry) => {
		if (entry.isFile()) return [entry.name];
		if (entry.name.startsWith(".") || ["node_modules", "build", "dist"].includes(entry.name))
			return [];
		const inner = readdirSync(join(top, entry.name), { recursive: true, encoding: "utf8" });
		return inner.map((path) => join(entry.name, path));
	});
	const documents = tracked.filter(
		(file) => file.endsWith(".md") && !["CHANGELOG.md", "bench/RESULTS.md"].includes(file),
	);
	const quoted = /`([\w./*-]+\.(?:ts|mjs|h|c|cc|md|yaml))`/g;
	/** A path from the top or from the document's folder, or a name that is unique enough to be found. */
	const isThere = (name: string, document: string) => {
		const pattern = new RegExp(
			`(^|/)${name
				.replace(/^(\.\.\/)+/, "")
				.replace(/[.]/g, "\\.")
				.replace(/[*]/g, "[^/]*")}$`,
		);
		return (
			existsSync(join(top, dirname(document), name)) || tracked.some((file) => pattern.test(file))
		);
	};
	let names = 0;
	const missing: string[] = [];
	const check = (name: string, document: string) => {
		names++;
		if (!isThere(name, document)) missing.push(`${document}: ${name}`);
	};
	for (const document of documents)
		for (const [, name = ""] of read(document).matchAll(quoted)) check(name, document);
	// Drawings and the source tree name files without quotes.
	for (const [, drawing = ""] of read("ARCHITECTURE.md").matchAll(/```(.*?)```/gs))
		for (const [name] of drawing.matchAll(
			/\b(?:src|bpf|test|native|cni|scripts|docs)\/[\w./-]*\w/g,
		)) {
			names++;
			if (!existsSync(join(top, name))) missing.push(`ARCHITECTURE.md: ${name}`);
		}
	t.same(missing, []);
	t.ok(names > 100, String(names));
});

t.test("links lead to files and headings that are there", async (t) => {
	const files = [
		"README.md",
		"ARCHITECTURE.md",
		"CHANGELOG.md",
		"bench/README.md",
		"bench/RESULTS.md",
	];
	for (const folder of ["docs", "deploy"])
		for (const name of readdirSync(join(top, folder)))
			if (name.endsWith(".md")) files.push(`${folder}/${name}`);
	files.push("src/cni/README.md", "test/kubernetes/README.md", "test/vm/README.md");
	const anchors = (text: string) =>
		[...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
			heading
				.toLowerCase()
				.replace(/[^\w\- ]/g, "")
				.replaceAll(" ", "-"),
		);
	let links = 0;
	for (const file of files)
		for (const [, target = ""] of read(file).matchAll(/\]\(([^)\s]+)\)/g)) {
			if (/^https?:/.test(target)) continue;
			links++;
			const [path = "", anchor] = target.split("#");
			const led = path === "" ? file : join(dirname(file), path);
			t.ok(existsSync(join(top, led)), `${file}: ${target}`);
			if (anchor !== undefined && led.endsWith(".md"))
				t.ok(anchors(read(led)).includes(anchor), `${file}: ${target}`);
		}
	t.ok(links > 30);
});
