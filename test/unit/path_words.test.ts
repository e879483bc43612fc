/** Each sentence that src/probe says about a path. */
import t from "tap";
import type { PathState } from "../../src/probe/path/path_state.js";
import { newPeer, type PeerState, type Policy } from "../../src/probe/peer/peer_state.js";
import { describe, proofOf } from "../../src/probe/words.js";
import { choice, HYBRID } from "../tools/paper_peer.js";

const NOW = 100_000;
type Change = Partial<Omit<PeerState, "direct" | "tunnel">> & {
	direct?: Partial<PathState>;
	tunnel?: Partial<PathState>;
};

function words(change: Change, policy: Policy = HYBRID): string {
	const state = newPeer(policy, 1, 0);
	const { direct, tunnel, ...rest } = change;
	return describe(
		{
			...state,
			...rest,
			direct: { ...state.direct, ...direct },
			tunnel: { ...state.tunnel, ...tunnel },
		},
		"n2",
		NOW,
	);
}

const answered = { everAnswered: true, outcomes: 0xfff, outcomeCount: 12, roundTrip: 0.214 };
const works: Partial<PathState> = { ...answered, phase: "proven", size: 1500, answeredAt: NOW };
const carries: Partial<PathState> = { ...works, size: 1450 };
const failed = (more: Partial<PathState> = {}): Partial<PathState> => ({
	...answered,
	phase: "failed",
	cause: "silent",
	...more,
});
const facts = (there: number, back: number, asked = 3) => ({
	there: { asked, answered: there },
	back: { asked, answered: back },
});

t.test("every sentence", async (t) => {
	const noEncap: Policy = { ...HYBRID, mode: "noEncap", verified: false, tunnel: undefined };
	const encap: Policy = { ...HYBRID, mode: "encap", verified: false, direct: undefined };
	const routed: Policy = { ...HYBRID, direct: choice("routed", 1500) };
	const tunnel = carries;
	const rows: [sentence: string, Change, Policy?][] = [
		["direct: 12 of 12 probes answered, 1500 bytes, 0.21 ms.", { use: "direct", direct: works }],
		[
			"direct: 11 of 12 probes answered, 1400 bytes of 1500 get through, 12 ms.",
			{ use: "direct", direct: { ...works, size: 1400, outcomes: 0x7ff, roundTrip: 12.4 } },
		],
		[
			"routed: 12 of 12 probes answered, 1500 bytes, 0.21 ms.",
			{ use: "direct", direct: works },
			routed,
		],
		[
			"direct: n2 has answered no probe yet, and noEncap has nothing to fall back to.",
			{ use: "direct" },
			noEncap,
		],
		[
			"direct: 4 of 12 probes answered, and noEncap has nothing to fall back to.",
			{ use: "direct", direct: failed({ outcomes: 0xf0 }) },
			noEncap,
		],
		[
			"direct: no packet of 1280 bytes gets through, and noEncap has nothing to fall back to.",
			{ use: "direct", direct: failed({ cause: "size" }) },
			noEncap,
		],
		[
			"direct: 12 of 12 probes answered, 1500 bytes, 0.21 ms.",
			{ use: "direct", direct: works },
			noEncap,
		],
		[
			"direct: n2 has answered no probe yet, and hybrid.direct subnet needs no proof.",
			{ use: "direct" },
			{ ...HYBRID, verified: false },
		],
		["geneve: 12 of 12 probes answered, 1450 bytes, 0.21 ms.", { use: "tunnel", tunnel }, encap],
		[
			"geneve: 12 of 12 probes answered, the size is being measured, 0.21 ms.",
			{ use: "tunnel", tunnel: { ...answered, phase: "proving" } },
			encap,
		],
		["geneve: n2 has answered no probe yet.", { use: "tunnel" }, encap],
		["geneve: 12 of 12 probes answered.", { use: "tunnel", tunnel: failed() }, encap],
		[
			"down: geneve has not been answered for 20 s.",
			{ use: "down", tunnel: failed({ answeredAt: NOW - 20_000 }) },
			encap,
		],
		[
			"down: neither the direct path nor geneve has been answered for 2.5 s.",
			{
				use: "down",
				direct: failed({ answeredAt: NOW - 2500 }),
				tunnel: failed({ answeredAt: NOW - 9000 }),
			},
		],
		["geneve: n2 has answered no probe yet, so the direct path is not proven.", { use: "tunnel" }],
		[
			"geneve: the direct path carries packets of 1380 bytes only, the tunnel of 1450.",
			{ use: "tunnel", direct: { ...works, size: 1380 }, tunnel },
		],
		[
			"geneve: the direct path is being proven.",
			{ direct: { ...answered, phase: "proving" }, tunnel },
		],
		[
			"geneve: the direct path answers again; it is used after 5 s without failure.",
			{ hold: 5000, direct: { ...answered, phase: "proving", phaseAt: NOW - 1000 }, tunnel },
		],
		[
			"geneve: the direct path is being proven.",
			{ hold: 5000, direct: { ...answered, phase: "proving", phaseAt: NOW - 6000 }, tunnel },
		],
		[
			"geneve: the direct path lost 20 % of probes; it is used again after 10 s without loss.",
			{
				hold: 10_000,
				direct: { ...answered, phase: "proving", phaseAt: NOW, cause: "loss", causeLoss: 0.2 },
				tunnel,
			},
		],
		[
			"geneve: the direct path loses 20 % of probes, the tunnel 8 %.",
			{
				direct: failed({ cause: "loss", causeLoss: 0.2 }),
				tunnel: { ...tunnel, outcomes: 0xffe },
			},
		],
		[
			"geneve: the direct path carries no packet of 1280 bytes, only smaller ones; is its MTU too small somewhere?",
			{ direct: failed({ cause: "size" }), tunnel },
		],
		["geneve: the direct path does not answer.", { direct: failed(), tunnel }],
		["geneve: the direct path does not answer.", { ...facts(0, 0, 2), direct: failed(), tunnel }],
		[
			"geneve: direct path drops our source address; is the source/destination check on?",
			{ ...facts(0, 3), direct: failed(), tunnel },
		],
		[
			"geneve: direct path drops n2's source address; is the source/destination check on there?",
			{ ...facts(3, 0), direct: failed(), tunnel },
		],
		[
			"geneve: direct path drops our source address, and n2's; is the source/destination check on?",
			{ ...facts(0, 0), direct: failed(), tunnel },
		],
		[
			"geneve: the direct path works in either direction alone, but not in both.",
			{ ...facts(3, 3), direct: failed(), tunnel },
		],
		[
			"geneve: direct packets from n2's Pods do not arrive; does the network there route our pod CIDRs?",
			{ ...facts(3, 0), direct: failed(), tunnel },
			routed,
		],
		[
			"geneve: direct packets do not reach n2; does the network route its pod CIDRs, and accept packets from ours?",
			{ ...facts(0, 3), direct: failed(), tunnel },
			routed,
		],
		[
			"geneve: the direct path is not routed; do the routers know the pod CIDRs of both Nodes?",
			{ ...facts(0, 0), direct: failed(), tunnel },
			routed,
		],
	];
	for (const [sentence, change, policy] of rows)
		t.equal(words(change, policy), sentence.replace("?", "?"));
});

t.test("the proof as a clause", async (t) => {
	const { direct } = newPeer(HYBRID, 1, 0);
	t.equal(proofOf({ ...direct, ...works }), "12 of 12 probes answered, 1500 bytes, 0.21 ms");
});
