/** How peers differ between two applies, with lines for the log. */
import type { PeerView } from "../compile/compile.js";
import { peerKey } from "../tables/paths.js";

export interface PeerDifference {
	/** "path": another path; "changed": the same path with other properties. */
	kind: "added" | "path" | "changed" | "removed";
	/** Before; undefined if it is new. */
	before: PeerView | undefined;
	/** Now or, if removed, before. */
	peer: PeerView;
	/** Fields for the log. */
	facts: { peer: string; family: 4 | 6; [fact: string]: unknown };
	message: string;
}

export function peerDifferences(
	before: readonly PeerView[],
	now: readonly PeerView[],
): PeerDifference[] {
	// Views are replaced, never changed, and most stay: those cost no more than this.
	const replaced = new Set(before);
	const fresh = now.filter((peer) => !replaced.delete(peer));
	const former = new Map([...replaced].map((peer) => [peerKey(peer), peer]));
	const differences: PeerDifference[] = [];
	for (const peer of fresh) {
		const { node, family, path, reason, mtu, transportAddress, podCIDRs } = peer;
		const old = former.get(peerKey(peer));
		former.delete(peerKey(peer));
		const facts = { peer: node, family, path, reason, mtu, transportAddress, podCIDRs };
		if (old === undefined) {
			differences.push({ kind: "added", before: old, peer, facts, message: "peer added" });
		} else if (old.path !== path) {
			differences.push({
				kind: "path",
				before: old,
				peer,
				facts: { ...facts, from: old.path },
				message: "peer path changed",
			});
		} else if (
			old.mtu !== mtu ||
			old.transportAddress !== transportAddress ||
			old.podCIDRs.join() !== podCIDRs.join()
		) {
			differences.push({ kind: "changed", before: old, peer, facts, message: "peer changed" });
		}
	}
	for (const peer of former.values()) {
		const facts = { peer: peer.node, family: peer.family };
		differences.push({ kind: "removed", before: peer, peer, facts, message: "peer removed" });
	}
	return differences;
}
