/** Pod packets as probes: counts of answers, compared with those before. */
import t from "tap";
import { newPeer, type PeerState } from "../../src/probe/peer/peer_state.js";
import { comparePodPackets } from "../../src/probe/peer/pod_packets.js";
import { choice } from "../tools/paper_peer.js";

const WRAP = 2 ** 31;

function peer(): PeerState {
	return newPeer(
		{
			...{ family: 4, mode: "hybrid", verified: true },
			...{ direct: choice("direct", 1500), tunnel: choice("geneve", 1450) },
		} as Parameters<typeof newPeer>[0],
		1,
		0,
	);
}

/** Counts of an answer: half of all packets sent are lost. */
const answer = (sequence: number, sent: number) => ({
	...{ sequence: ((sequence % WRAP) + WRAP) % WRAP, sent, received: sent / 2 },
	...{ sentLarge: 0, receivedLarge: 0 },
});

t.test("loss among Pod packets is found wherever the sequence number is", async (t) => {
	const rows: [name: string, first: number, second: number][] = [
		["in the middle", 1000, 1001],
		["across the wrap", -1, 0],
		["after the wrap, many requests later", -3, 500],
	];
	for (const [name, first, second] of rows) {
		const state = peer();
		comparePodPackets(state, answer(first, 1000), 10);
		const found = comparePodPackets(state, answer(second, 2000), 20);
		t.ok(found.lossy, name);
	}
});

t.test("an answer that was overtaken by a later one says nothing", async (t) => {
	for (const first of [1000, 0]) {
		const state = peer();
		comparePodPackets(state, answer(first, 1000), 10);
		const found = comparePodPackets(state, answer(first - 1, 2000), 20);
		t.notOk(found.lossy, `after ${first}`);
		t.equal(state.counts?.sequence, first);
	}
});
