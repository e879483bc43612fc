/** `POST /check`: has every path to the peers asked over, and says what each mode would make of it. */
import { type CheckAnswer, type CheckRequest, NO_SUCH_PEER } from "../api/messages.js";
import { RequestError } from "../api/server.js";
import { gather, suspects } from "../probe/causes.js";
import { deduce, type PathSurvey } from "../probe/survey.js";
import { type HybridRule, type Mode, summarize, verdictsOf } from "../probe/verdict.js";

export interface CheckContext {
	node: string;
	mode: Mode;
	/** Names of the other Nodes. */
	peers: readonly string[];
	/** The configuration's `hybrid.direct`. */
	hybridDirect: HybridRule["direct"];
	/** Whether hybrid may use the direct path to this peer. */
	candidate: (survey: PathSurvey) => boolean;
	/** Asks one Node, or all of them, over every path of every family. */
	survey: (node?: string) => Promise<PathSurvey[]>;
}

/** @throws RequestError */
export async function check(request: unknown, context: CheckContext): Promise<CheckAnswer> {
	const { peer } = read(request);
	if (peer !== undefined && !context.peers.includes(peer)) {
		const known = [...context.peers].sort().slice(0, 10);
		const more = context.peers.length > known.length ? ", ..." : "";
		throw new RequestError(
			NO_SUCH_PEER,
			`Cannot check ${peer}: ${known.length > 0 ? `expected another Node of the cluster (${known.join(", ")}${more})` : "the cluster has no other Node"}`,
		);
	}
	const peers = (await context.survey(peer)).map((survey) => {
		const findings = deduce(survey);
		const candidate = context.candidate(survey);
		return {
			...survey,
			candidate,
			findings,
			verdicts: verdictsOf(survey, findings, { direct: context.hybridDirect, candidate }),
			suspicions: suspects(survey, findings),
		};
	});
	return {
		node: context.node,
		mode: context.mode,
		hybridDirect: context.hybridDirect,
		peers,
		modes: summarize(peers, context.mode),
		causes: gather(peers),
	};
}

function read(request: unknown): CheckRequest {
	const wrong = (got: string) =>
		new RequestError(400, `Cannot check: expected {"peer": NODE} or {}, ${got}`);
	if (request === undefined) return {};
	if (typeof request !== "object" || request === null || Array.isArray(request))
		throw wrong("got something else");
	const { peer } = request as { peer?: unknown };
	if (peer === undefined) return {};
	if (typeof peer !== "string" || peer === "") throw wrong("the peer is no name");
	return { peer };
}
