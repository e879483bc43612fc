import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { root } from "../../src/lab/repository.js";
import { parse, recorded, render } from "../kubernetes/conformance_document.js";
import { faultsOf } from "../kubernetes/inventory.js";

const passed = (name: string) => ({ name, state: "passed" as const, seconds: 1, message: "" });
const failed = (name: string) => ({ ...passed(name), state: "failed" as const, message: "no" });

t.test("docs/CONFORMANCE.md is as the command writes it", async (t) => {
	const text = readFileSync(join(root, "docs/CONFORMANCE.md"), "utf8");
	t.equal(text, render(parse(text)));
});

t.test("a run replaces its own cell and its own failures", async (t) => {
	const run = (
		change: Partial<Parameters<typeof recorded>[1]>,
		before = parse(render({ rows: new Map(), failed: [] })),
	) =>
		recorded(before, {
			...{ suite: "network", network: "encap" as const, family: 4 as const, results: [] },
			...{ proxy: "fairway" as const, ...change },
		});
	let document = run({ results: [passed("a"), failed("b")] });
	document = run({ family: 6, results: [failed("c")] }, document);
	document = run({ network: "noEncap", results: [passed("a"), passed("b")] }, document);
	document = run({ proxy: "kube-proxy", results: [failed("d")] }, parse(render(document)));
	const rows = (text: string) => text.split("\n").filter((line) => /^\| `\S+` \| IPv/.test(line));
	t.strictSame(rows(render(document)), [
		"| `network` | IPv4 | Fairway | 1 of 2 |  | 2 of 2 |  |  |",
		"| `network` | IPv4 | kube-proxy | 0 of 1 |  |  |  |  |",
		"| `network` | IPv6 | Fairway | 0 of 1 |  |  |  |  |",
	]);
	t.strictSame(document.failed, [
		"- `network`, encap, IPv4 first, Fairway: b",
		"- `network`, encap, IPv6 first, Fairway: c",
		"- `network`, encap, IPv4 first, kube-proxy: d",
	]);

	const again = run({ results: [passed("a"), passed("b")] }, parse(render(document)));
	t.equal(rows(render(again))[0], "| `network` | IPv4 | Fairway | 2 of 2 |  | 2 of 2 |  |  |");
	t.notMatch(again.failed, [/encap, IPv4 first, Fairway: b/]);
	t.equal(again.failed.length, 2);
});

t.test("a suite without failures says so", async (t) => {
	t.match(render({ rows: new Map(), failed: [] }), /## Failed\n\nNone\.\n/);
});

t.test("a spec that is in no suite and not left out is a fault", async (t) => {
	const reasons = [
		{ specs: "SCTP", pattern: "SCTP", count: 1, reason: "" },
		{ specs: "the Internet", pattern: "Internet", count: 1, reason: "" },
	];
	const suites = new Set(["Services", "Netpol with SCTP"]);
	t.strictSame(
		faultsOf(["Services", "Netpol with SCTP", "SCTP", "Internet by SCTP"], suites, reasons),
		["SCTP: expected 1 specs, got 2.", "the Internet: expected 1 specs, got 0."],
	);
	t.strictSame(faultsOf(["Services", "SCTP", "Internet"], suites, reasons), []);
	t.match(faultsOf(["Services", "SCTP", "Internet", "new"], suites, reasons), [
		/^new is in no suite/,
	]);
});
