/** The end of a TCP connection: which of its last packets change the flow, and so take the full path. */
import t from "tap";
import { FlowState } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { Node } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, direct } = world;
const { SYN, ACK, FIN, RST } = build;

const out = (flags: number, payload = Buffer.alloc(0)) =>
	fromPod(
		podA,
		build.ip(
			{ source: podA[4], destination: direct.pod[4] },
			build.tcp(50_001, 80, { flags, payload }),
		),
	);
const back = (flags: number) =>
	fromWire(
		build.ip({ source: direct.pod[4], destination: podA[4] }, build.tcp(80, 50_001, { flags })),
	);

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 64 });
	t.teardown(() => dataPath.close());

	for (const [end, fins] of [
		["one FIN", [out(FIN | ACK)]],
		["both FINs", [out(FIN | ACK), back(FIN | ACK)]],
	] as const)
		t.test(
			`after ${end}, an acknowledgement takes the fast path, and data the full one`,
			async (t) => {
				const node = new Node(dataPath);
				await node.begin();
				for (const input of [out(SYN), back(SYN | ACK), out(ACK), ...fins]) await node.send(input);
				const { state } = node.flow(out(ACK));
				await node.send(out(ACK));
				t.ok(node.goesQuickWay(out(ACK)));
				t.equal(node.flow(out(ACK)).state, state, "it changes nothing");
				t.notOk(node.goesQuickWay(out(ACK, Buffer.from("more"))));
				t.equal(
					node.flow(out(ACK)).state,
					fins.length === 1 ? FlowState.TCP_ESTABLISHED : FlowState.TCP_CLOSING,
					"data takes the Pod's FIN back",
				);
			},
		);

	t.test("after a reset, whatever its sender sends takes the full path", async (t) => {
		const node = new Node(dataPath);
		await node.begin();
		for (const input of [out(SYN), back(SYN | ACK), out(ACK), out(RST)]) await node.send(input);
		t.notOk(node.goesQuickWay(out(ACK)));
	});
}
