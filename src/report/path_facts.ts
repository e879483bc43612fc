/** Current facts about a path, in addition to what was compiled at the last change. */
import type { PeerView } from "../compile/compile.js";
import { peerIndex } from "../forwarder/route.js";
import type { PathEvents } from "../observe/path_events.js";
import type { PathFacts as Probed, Prober } from "../probe/prober.js";
import type { PathFacts } from "./views.js";

/** The peer with its present reason. */
export function withReason(peer: PeerView, prober: Pick<Prober, "facts">): PeerView {
	return reasoned(peer, prober.facts(peerIndex(peer.id, peer.family)));
}

/** The same, with all other known facts. */
export function withFacts(
	peer: PeerView,
	prober: Pick<Prober, "facts">,
	events: Pick<PathEvents, "age">,
): { peer: PeerView; facts: PathFacts } {
	const probed = prober.facts(peerIndex(peer.id, peer.family));
	const { since, changes } = events.age(peer.node, peer.family);
	const facts = {
		since,
		changes,
		roundTripMs: probed?.roundTripMs ?? null,
		loss: probed?.loss ?? null,
		probes: probed?.probes ?? { sent: 0, answered: 0, late: 0 },
	};
	return { peer: reasoned(peer, probed), facts };
}

function reasoned(peer: PeerView, probed: Probed | undefined): PeerView {
	const { words, proof } = probed ?? {};
	const compiled = peer.reason.replace(/\.$/, "");
	const reason = words ?? (proof === undefined ? peer.reason : `${compiled}; ${proof}.`);
	return { ...peer, reason };
}
