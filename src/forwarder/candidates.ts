/**
 * The decision for a new flow whose backend is not chosen yet: one decision for each backend that the flow may get,
 * and what all of them have in common.
 */
import { isDeepStrictEqual } from "node:util";
import { Action, DropReason, Limit } from "../tables/generated.js";
import type { Candidate, Decision, PacketContext } from "./decision.js";

type Choose = NonNullable<PacketContext["choose"]>;

/** @param decide the decision for a choice */
export function decideForAll(decide: (choose: Choose) => Decision): Decision {
	let all: readonly Candidate[] = [];
	const first = decide((candidates) => {
		all = candidates;
		return candidates[0]!;
	});
	if (all.length < 2) return first;
	return agreed(all.map((backend) => ({ backend, decision: decide(() => backend) })));
}

/** The parts on which all decisions agree; the others are left as if undecided. */
function agreed(backends: { backend: Candidate; decision: Decision }[]): Decision {
	const decisions = backends.map(({ decision }) => decision);
	const [first] = decisions as [Decision];
	const common = <K extends keyof Decision>(field: K, otherwise: Decision[K]): Decision[K] =>
		decisions.every((decision) => decision[field] === first[field]) ? first[field] : otherwise;
	const { backend: _, by: __, ...service } = first.service!;
	const steps = first.steps.filter((step, i) =>
		decisions.every(({ steps: { [i]: other } }) => other?.text === step.text),
	);
	const outsideMtu = common("outsideMtu", undefined);
	const { policy } = first;
	const isJudgedAlike = decisions.every((decision) => isDeepStrictEqual(decision.policy, policy));
	return {
		action: common("action", Action.PASS),
		dropReason: common("dropReason", DropReason.NONE),
		path: common("path", 0),
		slowPathKind: common("slowPathKind", 0),
		ifindex: common("ifindex", 0),
		peer: common("peer", Limit.NO_PEER),
		mtu: common("mtu", 0),
		...(outsideMtu !== undefined && { outsideMtu }),
		...(policy && isJudgedAlike && { policy }),
		packet: first.packet,
		ended: first.ended,
		ruleCounts: [],
		events: [],
		records: [],
		service,
		backends,
		steps,
	};
}
