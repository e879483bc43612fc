/** The table of docs/FAULTS.md: written rows compare as equal, and differences are reported. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { root } from "../../src/lab/repository.js";
import { compare, type FaultRow, FaultTable, withTable } from "../tools/fault_table.js";

const ROW: FaultRow = {
	...{ fault: "source check", mode: "hybrid", detectMs: 312.4, endState: "geneve" },
	lost: { udp: 310, tcpStallMs: 480.2 },
	words: "The tunnel | takes over.",
};
const PAGE = "# Page\n\n<!-- faults: begin -->\n<!-- faults: end -->\n\nMore.\n";

t.test("rows are written between the markers, and replaced there", async (t) => {
	const page = withTable(PAGE, [ROW]);
	t.ok(page.startsWith("# Page\n") && page.endsWith("\nMore.\n"));
	t.match(
		page,
		"| source check | hybrid | 312 ms | 310 | 480 ms | geneve | The tunnel \\| takes over. |\n",
	);
	t.equal(withTable(page, [ROW]), page);
	t.equal(withTable(withTable(page, [ROW, ROW]), [ROW]), page);
});

t.test("differences are reported, except in numbers", async (t) => {
	const page = withTable(PAGE, [ROW, { ...ROW, mode: "noEncap", detectMs: undefined }]);
	const rows = [
		{ ...ROW, detectMs: 99, lost: { udp: 0, tcpStallMs: 0 }, endState: "down" },
		{ ...ROW, fault: "reboot" },
	];
	t.same(compare(page, [ROW, { ...ROW, mode: "noEncap", words: "other" }]), []);
	t.same(compare(page, rows), [
		"source check, hybrid: ends down, the page says geneve",
		"reboot, hybrid: not on the page",
		"source check, noEncap: only on the page",
	]);
	t.throws(() => compare("# Page\n", rows), { message: /^Cannot find the table: expected/ });
});

t.test("recorded only on request", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-table-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const file = join(directory, "FAULTS.md");
	writeFileSync(file, PAGE);
	const table = new FaultTable(file);
	table.finish(t, false);
	table.add(ROW);
	t.equal(readFileSync(file, "utf8"), PAGE);
	table.finish(t, true);
	table.finish(t, false);
	t.same(compare(readFileSync(file, "utf8"), [ROW]), []);
});

t.test("the page has the markers", async (t) => {
	t.doesNotThrow(() => withTable(readFileSync(`${root}/docs/FAULTS.md`, "utf8"), []));
});
