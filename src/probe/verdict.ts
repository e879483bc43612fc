/** What each traffic mode would do with a peer, and with all of them. Pure. */
import type { HybridDirect, TrafficEncapMode } from "../config/config.js";
import type { PathKind } from "../tables/paths.js";
import type { Direction, Findings, PathSurvey, Way, WayFindings } from "./survey/survey.js";

export type Mode = TrafficEncapMode;
export const MODES: readonly Mode[] = ["encap", "hybrid", "noEncap"];

/** "unproven": the path would be used all the same, because nothing shows that it fails. */
export type Outcome = Exclude<PathKind, "down"> | "unproven" | "lost";

export interface Verdict {
	outcome: Outcome;
	/** What packets would take, even to a lost peer; down: there is no path at all. */
	path: PathKind;
	/** One plain sentence. */
	sentence: string;
}

/** The rules of hybrid. */
export interface HybridRule {
	/** The configuration's `hybrid.direct`. "subnet": a candidate goes direct without proof. */
	direct: HybridDirect;
	/** The direct path may be taken: same subnet or listed to be tried, and not forbidden. */
	candidate: boolean;
}

/** `lost` and the others count a peer once for each family. */
export interface ModeSummary {
	mode: Mode;
	/** The active mode. */
	configured: boolean;
	counts: Record<Outcome, number>;
	lost: { node: string; family: 4 | 6 }[];
	/** "12 peers direct, 3 in geneve; would break 1 peer: node4 (v4)" */
	sentence: string;
}

export function verdictsOf(
	survey: PathSurvey,
	findings: Findings,
	hybrid: HybridRule,
): Record<Mode, Verdict> {
	const encap = only("tunnel", survey, findings);
	return {
		encap,
		hybrid: hybridVerdict(survey, findings, hybrid, encap),
		noEncap: only("direct", survey, findings),
	};
}

/** The verdict when packets may take this way only. */
function only(way: Way, survey: PathSurvey, findings: Findings): Verdict {
	const path = survey[way];
	const found = findings[way];
	if ("none" in path || found === null) {
		const why = "none" in path ? path.none : "nothing is known about it";
		return { outcome: "lost", path: "down", sentence: `There is no ${way} path: ${why}.` };
	}
	const { kind } = path;
	if (found.state === "works")
		return { outcome: kind, path: kind, sentence: `${proven(kind, found)}.` };
	if (found.state === "fails")
		return { outcome: "lost", path: kind, sentence: `The path ${kind} fails: ${failure(found)}.` };
	if (findings.asked && !findings.answered && survey.answers)
		return {
			outcome: "lost",
			path: kind,
			sentence: "It answered probes before and answers none now, on any path.",
		};
	return {
		outcome: "unproven",
		path: kind,
		sentence: survey.answers
			? `Nothing shows whether the path ${kind} works.`
			: `No probe answered yet (another implementation?): ${kind}, unverified.`,
	};
}

function hybridVerdict(
	survey: PathSurvey,
	findings: Findings,
	rule: HybridRule,
	tunnel: Verdict,
): Verdict {
	if (!rule.candidate || "none" in survey.direct || findings.direct === null) return tunnel;
	if (rule.direct === "subnet" || findings.direct.state === "works")
		return only("direct", survey, findings);
	if (findings.direct.state !== "fails") return tunnel;
	const why = `The path ${survey.direct.kind} fails: ${failure(findings.direct)}`;
	return { ...tunnel, sentence: `${why}. ${tunnel.sentence}` };
}

function proven(kind: string, { there, back }: WayFindings): string {
	const legs = [there.small, there.full, back.small, back.full];
	const loss = Math.max(...legs.map((leg) => leg.loss ?? 0));
	const text = `The path ${kind} works both ways, up to ${there.full.length} bytes`;
	return loss < 0.01 ? text : `${text}, and loses ${Math.round(loss * 100)} % of the probes`;
}

/** Describes a failing path as a clause. */
function failure({ there, back }: WayFindings): string {
	const [noneThere, noneBack] = [there, back].map(({ small }) => small.finding === "fails");
	if (noneThere && noneBack) return "no packet gets there, and none comes back";
	if (noneThere) return "no packet gets there";
	if (noneBack) return "no packet comes back";
	const cut = ({ full, largest }: Direction, verb: string) =>
		full.finding === "fails"
			? [`packets of ${full.length} bytes do not ${verb} (those of ${largest} do)`]
			: [];
	const cuts = [...cut(there, "get there"), ...cut(back, "come back")];
	if (cuts.length > 0) return cuts.join(", ");
	const large = there.small.finding === "works" && back.small.finding === "works";
	return `${large ? `packets of ${there.full.length} bytes` : "packets"} get lost, on the way there or back`;
}

/** One line for each mode, in the order of MODES. */
export function summarize(
	peers: readonly { node: string; family: 4 | 6; verdicts: Readonly<Record<Mode, Verdict>> }[],
	configured: Mode,
): ModeSummary[] {
	const families = new Set(peers.map(({ family }) => family));
	const unit = families.size > 1 ? "path" : "peer";
	return MODES.map((mode) => {
		const counts = { direct: 0, routed: 0, geneve: 0, vxlan: 0, unproven: 0, lost: 0 };
		for (const { verdicts } of peers) counts[verdicts[mode].outcome]++;
		const lost = peers
			.filter(({ verdicts }) => verdicts[mode].outcome === "lost")
			.map(({ node, family }) => ({ node, family }));
		const sentence = sentenceOf(counts, lost, unit);
		return { mode, configured: mode === configured, counts, lost, sentence };
	});
}

const WHERE: Readonly<Record<Exclude<Outcome, "lost">, string>> = {
	direct: "direct",
	routed: "routed",
	geneve: "in geneve",
	vxlan: "in vxlan",
	unproven: "unverified",
};

/** Lost peers named at most; the rest is a number. */
const NAMED = 5;

function sentenceOf(
	counts: Readonly<Record<Outcome, number>>,
	lost: ModeSummary["lost"],
	unit: string,
): string {
	const carried = Object.entries(WHERE)
		.map(([outcome, where]) => ({ where, count: counts[outcome as Outcome] }))
		.filter(({ count }) => count > 0)
		.map(({ where, count }, i) => (i === 0 ? amount(count, unit, where) : `${count} ${where}`));
	const names = lost.slice(0, NAMED).map(({ node, family }) => `${node} (v${family})`);
	const more = lost.length > NAMED ? ` and ${lost.length - NAMED} more` : "";
	const losing =
		lost.length === 0
			? []
			: [`would break ${amount(lost.length, unit)}: ${names.join(", ")}${more}`];
	return [...(carried.length > 0 ? [carried.join(", ")] : []), ...losing].join("; ") || "no peers";
}

function amount(count: number, unit: string, where?: string): string {
	const text = `${count} ${unit}${count === 1 ? "" : "s"}`;
	return where === undefined ? text : `${text} ${where}`;
}
