/** What became of the peers between two applies, as lines for the log. */
import type { PeerView } from "../compile/compile.js";

export interface PeerDifference {
	facts: { peer: string; family: 4 | 6; [fact: string]: unknown };
	message: string;
}

export function peerDifferences(
	before: readonly PeerView[],
	now: readonly PeerView[],
): PeerDifference[] {
	const key = ({ node, family }: PeerView) => `${node}/${family}`;
	const former = new Map(before.map((peer) => [key(peer), peer]));
	const differences: PeerDifference[] = [];
	for (const peer of now) {
		const { node, family, path, reason, mtu, transportAddress, podCIDRs } = peer;
		const old = former.get(key(peer));
		former.delete(key(peer));
		const facts = { peer: node, family, path, reason, mtu, transportAddress, podCIDRs };
		if (old === undefined) {
			differences.push({ facts, message: "peer added" });
		} else if (old.path !== path) {
			differences.push({ facts: { ...facts, from: old.path }, message: "peer's path changed" });
		} else if (
			old.mtu !== mtu ||
			old.transportAddress !== transportAddress ||
			old.podCIDRs.join() !== podCIDRs.join()
		) {
			differences.push({ facts, message: "peer changed" });
		}
	}
	for (const { node, family } of former.values()) {
		differences.push({ facts: { peer: node, family }, message: "peer removed" });
	}
	return differences;
}
