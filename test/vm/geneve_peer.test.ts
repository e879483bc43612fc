/** The Geneve device of Linux 6.1 as a peer; this machine's kernel may lack it. */
import t from "tap";
import type { Exchange } from "./inside/geneve_peer.js";
import { bundle, kernel, runIn, TEST_MS } from "./kernel.js";

const modules = ["veth", "bridge", "geneve", "dummy", "cls_bpf", "sch_ingress"];

t.setTimeout(TEST_MS);

t.test("the kernel's Geneve device as a peer", async (t) => {
	const { status, output, notes } = await runIn(
		await kernel("6.1"),
		[process.execPath, await bundle("geneve_peer")],
		{ modules },
	);
	const line = /^geneve: (.*)$/m.exec(output)?.[1];
	if (status !== 0 || line === undefined) {
		t.fail(`exit ${status}\n${output}\n${notes}`);
		return;
	}
	const report = JSON.parse(line) as {
		kernel: string;
		xdp: string;
		drops: Record<string, number>;
		exchanges: Exchange[];
	};
	t.comment(`Linux ${report.kernel}, XDP ${report.xdp}; ${notes}`);
	t.equal(report.exchanges.length, 4);
	for (const { from, to, family, ...outcome } of report.exchanges)
		t.same(
			outcome,
			{ answered: 5, whole: true, missing: [], corrupt: [] },
			`${from} → ${to} IPv${family}`,
		);
	// The device reports its multicast groups through the tunnel. That is refused: it is not for a Pod.
	const { packet_too_big, tunnel_malformed = 0, ...drops } = report.drops;
	t.ok(tunnel_malformed < 20, `${tunnel_malformed} multicast reports`);
	t.same(drops, {});
});
