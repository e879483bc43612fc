/** A TCP connection from its first answer to its end: which packets take the fast path, and what they change. */
import t from "tap";
import { FlowState, Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { HOOKS, hookText, sides } from "./conversation.js";
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

	t.test("from the first answer to the last FIN, every packet takes the fast path", async (t) => {
		const node = new Node(dataPath);
		await node.begin();
		await node.send(out(SYN));
		for (const [name, input, state] of [
			["SYN ACK", back(SYN | ACK), FlowState.TCP_OPENING],
			["ACK", out(ACK), FlowState.TCP_ESTABLISHED],
			["data", out(ACK, Buffer.from("question")), FlowState.TCP_ESTABLISHED],
			["the Pod's FIN", out(FIN | ACK), FlowState.TCP_CLOSING],
			["the peer's FIN", back(FIN | ACK), FlowState.TCP_CLOSED],
			["the last ACK", out(ACK), FlowState.TCP_CLOSED],
		] as const) {
			t.ok(node.goesQuickWay(input), name);
			t.equal(node.flow(out(ACK)).state, state, name);
			await node.send(input);
		}
	});

	t.test(
		"the first answer to UDP takes the fast path, and makes the flow an answered one",
		async (t) => {
			const node = new Node(dataPath);
			await node.begin();
			const ends = { source: podA[4], destination: direct.pod[4] };
			const question = fromPod(podA, build.ip(ends, build.udp(50_001, 53)));
			const answer = fromWire(
				build.ip({ source: direct.pod[4], destination: podA[4] }, build.udp(53, 50_001)),
			);
			for (const hook of HOOKS) {
				await node.begin();
				await node.send(question);
				t.equal(node.flow(question).state, FlowState.UDP_OPENING);
				t.ok(node.goesQuickWay({ ...answer, hook }), hookText(hook));
				t.equal(node.flow(question).state, FlowState.UDP_ESTABLISHED);
				await node.send({ ...answer, hook });
			}
		},
	);

	for (const answers of ["this Node's Pod", "a peer's Pod"])
		t.test(`the MSS in the first answer of ${answers} fits the peer's tunnel`, async (t) => {
			const node = new Node(dataPath);
			await node.begin();
			const [side] = sides(4).filter(({ name }) => name === "a Geneve peer");
			const [pod, peer] = [podA[4], world.geneve4.pod[4]];
			const segment = (
				from: string,
				to: string,
				ports: [number, number],
				mss: number,
				flags: number,
			) =>
				build.ip(
					{ source: from, destination: to },
					build.tcp(...ports, { flags, options: build.mss(mss) }),
				);
			const mine = answers === "this Node's Pod";
			const [asks, serves]: [number, number][] = [
				[50_001, 80],
				[80, 50_001],
			];
			const syn = mine
				? side!.received(segment(peer, pod, asks!, 1460, SYN), Hook.FROM_WIRE)
				: fromPod(podA, segment(pod, peer, asks!, 1460, SYN));
			const answer = mine
				? fromPod(podA, segment(pod, peer, serves!, 1460, SYN | ACK))
				: side!.received(segment(peer, pod, serves!, 1460, SYN | ACK), Hook.FROM_WIRE);
			await node.send(syn);
			await node.send(answer);
			t.ok(node.goesQuickWay(answer));
			const { packet } = await node.send(answer);
			const at = packet.indexOf(Buffer.from([2, 4]), packet.length - 8);
			t.equal(packet.readUInt16BE(at + 2), 1410, "the tunnel's MTU of 1450, less 40");
		});

	t.test("after a reset, whatever its sender sends takes the full path", async (t) => {
		const node = new Node(dataPath);
		await node.begin();
		for (const input of [out(SYN), back(SYN | ACK), out(ACK), out(RST)]) await node.send(input);
		t.notOk(node.goesQuickWay(out(ACK)));
	});
}
