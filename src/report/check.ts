/** `POST /check`: probes every path to the peers and reports what each mode would do. */

import { setImmediate as turn } from "node:timers/promises";
import {
	type CheckAnswer,
	type CheckedPeer,
	type Leftovers,
	NO_SUCH_PEER,
} from "../api/messages/check.js";
import { RequestError } from "../api/server.js";
import { gather, suspects } from "../probe/causes.js";
import { deduce, type PathSurvey } from "../probe/survey/survey.js";
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
	/** Probes these Nodes, or all of them, over every path of every family. */
	survey: (nodes?: readonly string[]) => Promise<PathSurvey[]>;
	leftovers: () => Promise<Leftovers[]>;
}

/** @throws RequestError */
export async function check(request: unknown, context: CheckContext): Promise<CheckAnswer> {
	const { peer: nodes } = read(request);
	const unknown = nodes?.find((node) => !context.peers.includes(node));
	if (unknown !== undefined) {
		const known = [...context.peers].sort().slice(0, 10);
		const more = context.peers.length > known.length ? ", ..." : "";
		throw new RequestError(
			NO_SUCH_PEER,
			`Cannot check ${unknown}: ${known.length > 0 ? `expected another Node of the cluster (${known.join(", ")}${more})` : "the cluster has no other Node"}`,
		);
	}
	const peers: CheckedPeer[] = [];
	for (const survey of await context.survey(nodes)) {
		const findings = deduce(survey);
		const candidate = context.candidate(survey);
		peers.push({
			...survey,
			candidate,
			findings,
			verdicts: verdictsOf(survey, findings, { direct: context.hybridDirect, candidate }),
			suspicions: suspects(survey, findings),
		});
		if (peers.length % PEERS_A_TURN === 0) await turn();
	}
	return {
		node: context.node,
		mode: context.mode,
		hybridDirect: context.hybridDirect,
		peers,
		modes: summarize(peers, context.mode),
		causes: gather(peers),
		// A failure here must not suppress the rest of the answer.
		leftovers: await context.leftovers().catch(() => []),
	};
}

/** Peers whose conclusions are drawn in one turn of the event loop. */
const PEERS_A_TURN = 100;

function read(request: unknown): { peer?: string[] } {
	const wrong = (got: string) =>
		new RequestError(400, `Cannot check: expected {"peer": NODE or [NODE, ...]} or {}, got ${got}`);
	if (request === undefined) return {};
	if (typeof request !== "object" || request === null || Array.isArray(request))
		throw wrong("something else");
	const { peer } = request as { peer?: unknown };
	if (peer === undefined) return {};
	const nodes: unknown[] = Array.isArray(peer) ? peer : [peer];
	const isName = (node: unknown): node is string => typeof node === "string" && node !== "";
	if (!nodes.every(isName) || nodes.length === 0) throw wrong("a peer without a name");
	return { peer: nodes };
}
