/** The differences between peers before and after a change, as fields for the log. */
import type { PeerView } from "../compile/compile.js";

/** A peer in one family, before and after; undefined: it did not exist, or no longer exists. */
export interface Replaced {
	before: PeerView | undefined;
	now: PeerView | undefined;
}

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

/** Removed peers come first, since a peer of the same name may be new. */
export function peerDifferences(replaced: readonly Replaced[]): PeerDifference[] {
	const gone: PeerDifference[] = [];
	const differences: PeerDifference[] = [];
	for (const { before: former, now: peer } of replaced) {
		const same = former?.node === peer?.node;
		if (former !== undefined && !same) {
			const facts = { peer: former.node, family: former.family };
			gone.push({ kind: "removed", before: former, peer: former, facts, message: "peer removed" });
		}
		if (peer === undefined) continue;
		const before = same ? former : undefined;
		const { node, family, path, reason, mtu, transportAddress, podCIDRs } = peer;
		const facts = { peer: node, family, path, reason, mtu, transportAddress, podCIDRs };
		if (before === undefined) {
			differences.push({ kind: "added", before, peer, facts, message: "peer added" });
		} else if (before.path !== path) {
			differences.push({
				kind: "path",
				before,
				peer,
				facts: { ...facts, from: before.path },
				message: "peer path changed",
			});
		} else if (
			before.mtu !== mtu ||
			before.transportAddress !== transportAddress ||
			before.podCIDRs.join() !== podCIDRs.join()
		) {
			differences.push({ kind: "changed", before, peer, facts, message: "peer changed" });
		}
	}
	return [...gone, ...differences];
}
