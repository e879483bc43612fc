/** The compiler's values as entries of the maps. */
import {
	type Judgement as JudgementEntry,
	JudgementFlag,
	Limit,
	type Policy,
	type PolicyVerdict,
	type PortSegment,
	type PortSet,
} from "../tables/generated.js";
import type { PolicyEntry, PortSetPart, Verdict } from "./policy_tables.js";
import type { Judgement } from "./port_space.js";

export function policyEntry({ verdict, hairpin }: PolicyEntry): Policy {
	return { verdict: verdictEntry(verdict), hairpin };
}

export function verdictEntry(verdict: Verdict): PolicyVerdict {
	return "portSet" in verdict
		? { judgement: NOTHING, portSet: verdict.portSet }
		: { judgement: judgementEntry(verdict.judgement), portSet: 0 };
}

/** The contents of an entry. */
export function plainVerdict({ judgement, portSet }: PolicyVerdict): Verdict {
	return portSet === 0 ? { judgement: plainJudgement(judgement) } : { portSet };
}

export function plainJudgement({ rule, stagedRule, flags }: JudgementEntry): Judgement {
	const { ALLOW, STAGED, STAGED_ALLOW } = JudgementFlag;
	const plain = { allow: (flags & ALLOW) !== 0, rule };
	if ((flags & STAGED) === 0) return plain;
	return { ...plain, staged: { allow: (flags & STAGED_ALLOW) !== 0, rule: stagedRule } };
}

/** @param part at most PORT_SET_SEGMENTS segments */
export function portSetEntry({ segments, nextFrom = 0, next = 0 }: PortSetPart): PortSet {
	const entries = segments.map(({ from, judgement }) => ({
		from,
		judgement: judgementEntry(judgement),
	}));
	const rest = new Array<PortSegment>(Limit.PORT_SET_SEGMENTS - entries.length).fill(NO_SEGMENT);
	return { nextFrom, next, count: entries.length, segments: [...entries, ...rest] };
}

const NOTHING: JudgementEntry = { rule: 0, stagedRule: 0, flags: 0 };
const NO_SEGMENT: PortSegment = { from: 0, judgement: NOTHING };

function judgementEntry({ allow, rule, staged }: Judgement): JudgementEntry {
	const then = staged ? JudgementFlag.STAGED | (staged.allow ? JudgementFlag.STAGED_ALLOW : 0) : 0;
	const flags = (allow ? JudgementFlag.ALLOW : 0) | then;
	return { rule, stagedRule: staged?.rule ?? 0, flags };
}
