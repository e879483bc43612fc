/** Reads the paths to peers, and the proofs of direct ones, that an earlier agent has left. */
import type { BpfMap } from "#native";
import { u32 } from "../../tables/codec.js";
import { Path, PathProof, type Peer, ProbeWay } from "../../tables/generated.js";

export interface AdoptedPath {
	/** Packets went without a tunnel: directly, or routed. */
	direct: boolean;
	/** PeerFlag */
	flags: number;
	/** Largest packet that went to the peer. */
	mtu: number;
	/** Milliseconds since the last answer over the direct path; the second for large requests. */
	answeredAgo: number;
	largeAnsweredAgo: number;
}

/** The adopted paths by index in peers. */
export function adoptedPaths(
	peers: ReadonlyMap<number, Peer>,
	proofs: BpfMap,
): Map<number, AdoptedPath> {
	const now = process.hrtime.bigint();
	const ago = (time: bigint) => (time === 0n ? Number.POSITIVE_INFINITY : Number(now - time) / 1e6);
	const adopted = new Map<number, AdoptedPath>();
	for (const [index, { path, mtu, flags }] of peers) {
		if (path === Path.NONE) continue;
		const direct = path === Path.DIRECT || path === Path.ROUTED;
		if (!direct) {
			const answered = {
				answeredAgo: Number.POSITIVE_INFINITY,
				largeAnsweredAgo: Number.POSITIVE_INFINITY,
			};
			adopted.set(index, { direct, flags, mtu, ...answered });
			continue;
		}
		const bytes = proofs.lookup(u32.encode(index * 2 + ProbeWay.DIRECT));
		if (bytes === undefined) continue;
		const { answeredAt, largeAnsweredAt } = PathProof.decode(bytes);
		adopted.set(index, {
			direct,
			flags,
			mtu,
			answeredAgo: ago(answeredAt),
			largeAnsweredAgo: ago(largeAnsweredAt),
		});
	}
	return adopted;
}
