/** Current facts about paths, in addition to what was compiled at the last change. */
import type { PeerView } from "../compile/compile.js";
import { peerIndex } from "../forwarder/route.js";
import type { PathEvents } from "../observe/path_events.js";
import type { Prober } from "../probe/prober.js";
import type { PathFactsOf } from "./views.js";

/** The peers with their current reasons. */
export function withReasons(peers: readonly PeerView[], prober: Pick<Prober, "facts">): PeerView[] {
	return peers.map((peer) => {
		const { words, proof } = prober.facts(peerIndex(peer.id, peer.family)) ?? {};
		const compiled = peer.reason.replace(/\.$/, "");
		const reason = words ?? (proof === undefined ? peer.reason : `${compiled}; ${proof}.`);
		return { ...peer, reason };
	});
}

export function pathFactsOf(
	peers: readonly PeerView[],
	prober: Pick<Prober, "facts">,
	events: Pick<PathEvents, "age">,
): PathFactsOf {
	const byIndex = new Map(peers.map((peer) => [peerIndex(peer.id, peer.family), peer]));
	return (index) => {
		const peer = byIndex.get(index);
		if (peer === undefined) return undefined;
		const facts = prober.facts(index);
		const { since, changes } = events.age(peer.node, peer.family);
		return {
			since,
			changes,
			roundTripMs: facts?.roundTripMs ?? null,
			loss: facts?.loss ?? null,
			probes: facts?.probes ?? { sent: 0, answered: 0, late: 0 },
		};
	};
}
