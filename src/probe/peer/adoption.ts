/** What a restarted agent takes over from the paths that were in use. */
import type { AdoptedPath } from "../../reconcile/maps/adopted_paths.js";
import { type Pace, proofLife } from "../pace.js";
import { adoptedAnnouncement } from "./announcement.js";
import type { PeerState } from "./peer_state.js";

/** Into the state of a peer that is new to this process. */
export function adopt(state: PeerState, adopted: AdoptedPath, now: number, pace: Pace): void {
	const { direct, policy } = state;
	const life = proofLife(pace);
	const inTunnel = !adopted.direct;
	state.announcement = adoptedAnnouncement(adopted.flags, inTunnel, now);
	// Where no proof is required, packets stay in the tunnel until the peer announces that it takes others.
	if (inTunnel && policy.direct !== undefined && !policy.verified) state.use = "tunnel";
	if (inTunnel || !policy.verified || direct.full === 0 || adopted.answeredAgo > life) return;
	direct.phase = "proven";
	direct.everAnswered = true;
	direct.answeredAt = now - adopted.answeredAgo;
	direct.size = Math.min(adopted.mtu, direct.full);
	direct.sizeAt = now - adopted.largeAnsweredAgo;
	// Probed at once, so that a failure in the meantime shows within the failover time.
	direct.nextAt = now;
	direct.fullAt = now;
	state.use = "direct";
}
