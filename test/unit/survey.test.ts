/** What is concluded from probes, against networks of which the truth is known. */
import fc from "fast-check";
import t from "tap";
import type { PeerView } from "../../src/compile/compile.js";
import { EVENTS_MAX, PathEvents } from "../../src/observe/path_events.js";
import { peerDifferences } from "../../src/observe/peer_differences.js";
import { CAUSES, gather, suspects } from "../../src/probe/causes.js";
import {
	deduce,
	type Leg,
	type PathSurvey,
	type WayFindings,
} from "../../src/probe/survey/survey.js";
import { type HybridRule, MODES, summarize, verdictsOf } from "../../src/probe/verdict.js";
import { MTU, type PaperNetwork, paperSurvey } from "../tools/paper_survey.js";
import { replaced } from "../tools/replaced.js";

const RULE: HybridRule = { direct: "proven", candidate: true };
const FREE: PaperNetwork = {
	direct: { there: 1500, back: 1500 },
	tunnel: { there: 1450, back: 1450 },
};

function legs(findings: WayFindings | null): Leg[] {
	if (findings === null) return [];
	const { there, back } = findings;
	return [there.small, there.full, back.small, back.full];
}

function verdicts(survey: PathSurvey, rule = RULE) {
	return verdictsOf(survey, deduce(survey), rule);
}

/** "encap hybrid noEncap" */
function outcomes(network: PaperNetwork, rule = RULE): string {
	const found = verdicts(paperSurvey("n2", 4, network), rule);
	return MODES.map((mode) => found[mode].outcome).join(" ");
}

// ------------------------------------------------------------ findings

t.test("findings for each direction of each path", async (t) => {
	// What the network carries, and small there, full there, small back, full back of each way.
	const [w, f, u] = ["works", "fails", "unknown"];
	const tunnel = FREE.tunnel;
	const rows: [string, PaperNetwork, string[], string[]][] = [
		["everything", FREE, [w, w, w, w], [w, w, w, w]],
		["nothing direct", { direct: {}, tunnel }, [f, f, f, f], [w, w, w, w]],
		["nothing direct there", { direct: { back: 1500 }, tunnel }, [f, f, w, u], [w, w, w, w]],
		["nothing direct back", { direct: { there: 1500 }, tunnel }, [w, w, f, f], [w, w, w, w]],
		["small direct", { direct: { there: 1400, back: 1400 }, tunnel }, [w, f, w, f], [w, w, w, w]],
		[
			"large only there",
			{ direct: { there: 1500, back: 1499 }, tunnel },
			[w, w, w, f],
			[w, w, w, w],
		],
		[
			"large only back",
			{ direct: { there: 1499, back: 1500 }, tunnel },
			[w, f, w, u],
			[w, w, w, w],
		],
		["no tunnel", { ...FREE, tunnel: {} }, [w, w, w, w], [f, f, f, f]],
		["no tunnel there", { ...FREE, tunnel: { back: 1450 } }, [w, w, w, w], [f, f, w, u]],
		["small tunnel", { ...FREE, tunnel: { there: 1400, back: 1400 } }, [w, w, w, w], [w, f, w, u]],
		["crossed", { direct: { there: 1500 }, tunnel: { back: 1450 } }, [w, w, f, f], [f, f, w, u]],
		["nothing", { direct: {}, tunnel: {} }, [u, u, u, u], [u, u, u, u]],
	].map(([name, network, direct, tunnelled]) => [name, network, direct, tunnelled] as never);
	for (const [name, network, direct, tunnelled] of rows) {
		const findings = deduce(paperSurvey("n2", 4, network));
		const seen = (way: WayFindings | null) => legs(way).map(({ finding }) => finding);
		t.strictSame(seen(findings.direct), direct, `direct: ${name}`);
		t.strictSame(seen(findings.tunnel), tunnelled, `tunnel: ${name}`);
	}
	t.match(deduce(paperSurvey("n2", 4, FREE)), {
		direct: { state: "works", roundTripMs: 0.21, there: { full: { length: 1500, loss: 0 } } },
		tunnel: { state: "works", roundTripMs: 0.34, back: { full: { length: 1450 }, largest: 1450 } },
	});
	const lacking = deduce(paperSurvey("n2", 4, { ...FREE, direct: { none: "no route" } }));
	t.equal(lacking.direct, null);
	t.equal(lacking.tunnel?.state, "works");
});

const length = fc.constantFrom(0, 88, 1000, 1449, 1450, 1499, 1500);
const way = fc.oneof(
	{ weight: 5, arbitrary: fc.record({ there: length, back: length }) },
	{ weight: 1, arbitrary: fc.constant({ none: "it lacks an address" }) },
);
const network: fc.Arbitrary<PaperNetwork> = fc.record({
	direct: way,
	tunnel: way,
	kind: fc.constantFrom("direct" as const, "routed" as const),
	answers: fc.boolean(),
	asked: fc.integer({ min: 1, max: 5 }),
});

t.test("never concludes anything false", async () => {
	fc.assert(
		fc.property(network, (truth) => {
			const findings = deduce(paperSurvey("n2", 4, truth));
			return (["direct", "tunnel"] as const).every((name) => {
				const path = truth[name];
				const found = findings[name];
				if ("none" in path || found === null) return "none" in path && found === null;
				const carries = [path.there ?? 0, path.there ?? 0, path.back ?? 0, path.back ?? 0];
				const honest = legs(found).every(({ finding, length: size }, i) => {
					const carried = (carries[i] ?? 0) >= size;
					return finding === "unknown" || (finding === "works") === carried;
				});
				const all = carries.every((carried) => carried >= MTU[name]);
				return honest && (found.state === "unknown" || (found.state === "works") === all);
			});
		}),
	);
});

/** Any number of answers, consistent with a network or not. */
const survey: fc.Arbitrary<PathSurvey> = fc
	.tuple(network, fc.infiniteStream(fc.integer({ min: 0, max: 5 })))
	.map(([truth, counts]) => {
		const made = paperSurvey("n2", 4, truth);
		for (const cell of made.cells) cell.answered = Math.min(cell.asked, counts.next().value);
		return made;
	});
const rule: fc.Arbitrary<HybridRule> = fc.record({
	direct: fc.constantFrom("proven" as const, "subnet" as const),
	candidate: fc.boolean(),
});

const answeredBy = (made: PathSurvey, answered: (asked: number) => number): PathSurvey => ({
	...made,
	cells: made.cells.map((cell) => ({ ...cell, answered: answered(cell.asked) })),
});

t.test("silence never counts as working, complete answers always do", async () => {
	fc.assert(
		fc.property(survey, (made) => {
			const { direct, tunnel } = deduce(answeredBy(made, () => 0));
			return [...legs(direct), ...legs(tunnel)].every(({ finding }) => finding === "unknown");
		}),
	);
	fc.assert(
		fc.property(survey, (made) => {
			const { direct, tunnel } = deduce(answeredBy(made, (asked) => asked));
			const both = direct !== null && tunnel !== null;
			return (
				!both || [...legs(direct), ...legs(tunnel)].every(({ finding }) => finding === "works")
			);
		}),
	);
});

t.test("more answers never turn a reachable peer into a lost one", async () => {
	fc.assert(
		fc.property(survey, rule, fc.nat(7), (made, hybrid, index) => {
			const cell = made.cells[index];
			if (cell === undefined) return true;
			const more = made.cells.map((one) => (one === cell ? { ...one, answered: one.asked } : one));
			const before = verdicts(made, hybrid);
			const after = verdicts({ ...made, cells: more, answers: true }, hybrid);
			return MODES.every(
				(mode) =>
					["lost", "unproven"].includes(before[mode].outcome) || after[mode].outcome !== "lost",
			);
		}),
	);
});

// ------------------------------------------------------------ verdicts

t.test("what each mode would do with a peer", async (t) => {
	const { tunnel } = FREE;
	const subnet: HybridRule = { direct: "subnet", candidate: true };
	const elsewhere: HybridRule = { direct: "proven", candidate: false };
	// encap, hybrid, noEncap
	t.equal(outcomes(FREE), "geneve direct direct");
	t.equal(outcomes({ ...FREE, tunnelType: "vxlan" }), "vxlan direct direct");
	t.equal(outcomes(FREE, elsewhere), "geneve geneve direct");
	t.equal(outcomes({ ...FREE, kind: "routed" }), "geneve routed routed");
	t.equal(outcomes({ direct: {}, tunnel }), "geneve geneve lost");
	t.equal(outcomes({ direct: {}, tunnel }, subnet), "geneve lost lost");
	t.equal(outcomes({ direct: { there: 1400, back: 1400 }, tunnel }), "geneve geneve lost");
	t.equal(outcomes({ direct: { none: "x" }, tunnel }, subnet), "geneve geneve lost");
	t.equal(outcomes({ ...FREE, tunnel: {} }), "lost direct direct");
	t.equal(outcomes({ ...FREE, tunnel: {} }, elsewhere), "lost lost direct");
	const silent = { direct: {}, tunnel: {} };
	t.equal(outcomes(silent), "unproven unproven unproven", "another implementation");
	t.equal(outcomes({ ...silent, answers: true }), "lost lost lost", "it is gone");
	t.match(verdicts(paperSurvey("n2", 4, silent)), {
		hybrid: { path: "geneve", sentence: /^No probe answered yet.*geneve, unverified/ },
		noEncap: { path: "direct" },
	});
	t.match(verdicts(paperSurvey("n2", 4, { direct: { there: 1400, back: 1500 }, tunnel })), {
		hybrid: {
			outcome: "geneve",
			sentence:
				/direct fails: packets of 1500 bytes do not get there \(those of 88 do\)\. The path geneve works/,
		},
		noEncap: { path: "direct" },
	});
	t.match(verdicts(paperSurvey("n2", 4, { direct: { none: "n2 lacks one" }, tunnel })).noEncap, {
		path: "down",
		sentence: "There is no direct path: n2 lacks one.",
	});
	const lossy = answeredBy(paperSurvey("n2", 4, { ...FREE, asked: 10 }), () => 9);
	t.match(verdicts(lossy).encap, { outcome: "geneve", sentence: /loses 10 % of the probes/ });
	fc.assert(
		fc.property(survey, rule, (made, hybrid) =>
			Object.values(verdicts(made, hybrid)).every(({ sentence }) => /^[A-Z].*\.$/.test(sentence)),
		),
	);
});

t.test("summary over all peers", async (t) => {
	const checked = (node: string, family: 4 | 6, truth: PaperNetwork) => ({
		node,
		family,
		verdicts: verdicts(paperSurvey(node, family, truth)),
	});
	const { tunnel } = FREE;
	const three = [
		checked("n2", 4, FREE),
		checked("n3", 4, FREE),
		checked("n4", 4, { direct: {}, tunnel }),
	];
	t.match(summarize(three, "hybrid"), [
		{ mode: "encap", configured: false, sentence: "3 peers in geneve", lost: [] },
		{ mode: "hybrid", configured: true, sentence: "2 peers direct, 1 in geneve" },
		{
			mode: "noEncap",
			sentence: "2 peers direct; would break 1 peer: n4 (v4)",
			lost: [{ node: "n4", family: 4 }],
			counts: { direct: 2, lost: 1 },
		},
	]);
	const both = [checked("n2", 4, FREE), checked("n2", 6, { direct: {}, tunnel: {} })];
	t.equal(summarize(both, "encap")[0]?.sentence, "1 path in geneve, 1 unverified");
	const many = Array.from({ length: 8 }, (_, i) => checked(`m${i}`, 4, { direct: {}, tunnel }));
	t.match(
		summarize(many, "encap")[2]?.sentence,
		/^would break 8 peers: m0 .* m4 \(v4\) and 3 more$/,
	);
	t.equal(summarize([], "encap")[0]?.sentence, "no peers");
});

// ------------------------------------------------------------ causes

t.test("known causes of a result", async (t) => {
	const { tunnel } = FREE;
	const rows: [string, PaperNetwork, string[]][] = [
		["nothing is wrong", FREE, []],
		["addresses are checked", { direct: {}, tunnel }, ["pod-addresses both"]],
		["on the way back only", { direct: { there: 1500 }, tunnel }, ["pod-addresses back"]],
		["no routes", { direct: {}, tunnel, kind: "routed" }, ["no-route both", "pod-addresses both"]],
		["a small MTU", { direct: { there: 1460, back: 1460 }, tunnel }, ["direct-size there"]],
		["a small MTU there", { direct: { there: 1460, back: 1500 }, tunnel }, ["direct-size there"]],
		["the port is blocked", { ...FREE, tunnel: {} }, ["tunnel-blocked both"]],
		["a tunnel's size", { ...FREE, tunnel: { there: 1400, back: 1400 } }, ["tunnel-size there"]],
		[
			"a tunnel's size, nothing to compare with",
			{ direct: { none: "x" }, tunnel: { there: 1400, back: 1400 } },
			["tunnel-size unknown"],
		],
		["another implementation", { direct: {}, tunnel: {} }, ["silent unknown"]],
		["gone", { direct: {}, tunnel: {}, answers: true }, ["gone unknown"]],
	];
	for (const [name, truth, wanted] of rows) {
		const made = paperSurvey("n2", 4, truth);
		const found = suspects(made, deduce(made));
		t.strictSame(
			found.map(({ cause, suffers }) => `${cause} ${suffers}`),
			wanted,
			name,
		);
	}
	fc.assert(
		fc.property(survey, (made) => {
			const findings = deduce(made);
			const trouble = [findings.direct, findings.tunnel].some((found) => found?.state === "fails");
			return !trouble || suspects(made, findings).length > 0;
		}),
	);
	const peers = [
		{
			node: "n2",
			family: 4 as const,
			suspicions: [{ cause: "silent" as const, suffers: "both" as const }],
		},
		{ node: "n3", family: 6 as const, suspicions: [] },
	];
	t.match(gather(peers), [{ id: "silent", peers: [{ node: "n2", family: 4, suffers: "both" }] }]);
	t.equal(gather(peers).length, 1);
	for (const { id, pattern, places } of CAUSES) {
		t.ok(places.length > 0 && /^[A-Z].*\.$/.test(pattern), id);
		for (const { what, change } of places) {
			t.match(what, /\.$/, what);
			t.ok(change.length > 0, what);
		}
	}
});

// ------------------------------------------------------------ events

t.test("path events", async (t) => {
	const view = (node: string, path: PeerView["path"], mtu = 1500): PeerView => ({
		id: 0,
		node,
		family: 4,
		podCIDRs: [],
		transportAddress: "",
		path,
		reason: "So it is.",
		mtu,
	});
	const events = new PathEvents(500, { ages: {}, events: [] });
	const apply = (before: PeerView[], now: PeerView[], time: number) =>
		events.add(peerDifferences(replaced(before, now)), time);
	const first = [view("n2", "geneve"), view("n3", "geneve")];
	const second = [view("n2", "direct"), view("n3", "geneve", 1400)];
	apply([], first, 1_000);
	apply(first, second, 2_000);
	t.strictSame(
		events.list().map(({ time, node, from, to }) => [Date.parse(time), node, from, to]),
		[
			[1_000, "n2", null, "geneve"],
			[1_000, "n3", null, "geneve"],
			[2_000, "n2", "geneve", "direct"],
		],
	);
	t.match(events.age("n2", 4), { since: 2_000, changes: 1 });
	t.match(events.age("n3", 4), { since: 1_000, changes: 0 }, "another MTU is no other path");
	t.strictSame(events.age("n9", 4), { since: 500, changes: 0 });
	apply(second, [], 3_000);
	apply([], first, 4_000);
	t.match(events.age("n2", 4), { since: 4_000, changes: 0 }, "who comes back begins anew");
	for (let i = 0; i < EVENTS_MAX; i++) {
		const [from, to] =
			i % 2 === 0 ? (["geneve", "direct"] as const) : (["direct", "geneve"] as const);
		apply([view("n2", from)], [view("n2", to)], 5_000 + i);
	}
	t.equal(events.list().length, EVENTS_MAX);
	t.equal(Date.parse(events.list()[0]?.time ?? ""), 5_000, "the oldest went");
	t.equal(events.age("n2", 4).changes, EVENTS_MAX);
});
