/**
 * Devices and protocols that this machine's kernel may lack: WireGuard, PPP and IP in IPv6 as ways out of a
 * Node, WireGuard as the network between the Nodes, and SCTP: between Pods, by a Service, to the outside.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import type { End, Row } from "./inside/links.js";
import { bundle, kernel, runIn, TEST_MS } from "./kernel.js";

const modules = [
	...["veth", "bridge", "dummy", "cls_bpf", "sch_ingress", "geneve", "wireguard", "ip6_tunnel"],
	...["ppp_async", "sctp", "nf_conntrack"],
];

/** As in inside/links.ts. */
const PINGS = 2;

t.setTimeout(TEST_MS);

t.test("links without an Ethernet header, and SCTP", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-links-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const sctp = join(directory, "sctp");
	const source = fileURLToPath(new URL("../tools/sctp.c", import.meta.url));
	execFileSync("gcc", ["-O1", "-o", sctp, source]);
	const { status, output, notes } = await runIn(
		await kernel("6.12"),
		[process.execPath, await bundle("links"), sctp],
		{ modules },
	);
	const lines = (name: string) =>
		[...output.matchAll(new RegExp(`^${name}: (.*)$`, "gm"))].map((match) =>
			JSON.parse(match[1] ?? ""),
		);
	const rows: Row[] = lines("row");
	for (const { shows, answered, whole, seen, expected, missing = [], corrupt = [] } of rows)
		t.same(
			{ whole, seen, lost: answered === undefined ? 0 : PINGS - answered, missing, corrupt },
			{ whole: true, seen: expected, lost: 0, missing: [], corrupt: [] },
			shows,
		);
	const [end]: End[] = lines("end");
	if (status !== 0 || end === undefined) {
		t.fail(`exit ${status}\n${output}\n${notes}`);
		return;
	}
	t.comment(`Linux ${end.kernel}; ${notes}`);
	t.equal(rows.length, 22, "all rows are there");
	t.same(end.problems, [], "no agent has a problem");
	// Nodes learn one after another that the other has another transport address.
	for (const { packet_too_big: _asked, tunnel_unknown_peer: _moving, ...others } of end.drops)
		t.same(others, {}, "nothing else is dropped");
});
