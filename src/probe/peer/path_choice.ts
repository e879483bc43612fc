/** The path that packets to a peer take, from the state of its paths. Pure; part of a peer's turn (peer_turn.ts). */
import { isProven, isWhole, type PathState } from "../path/path_state.js";
import { SILENT } from "../path/path_turn.js";
import { mayGoUntunnelled } from "./announcement.js";
import type { PeerState, Use } from "./peer_state.js";

/** The direct path is to be taken without a proof. */
export function isUnverified({ policy }: PeerState): boolean {
	return policy.direct !== undefined && !policy.verified;
}

export function useOf(state: PeerState, now: number): Use {
	const { policy, direct, tunnel, use } = state;
	const mayGo = mayGoUntunnelled(state.announcement, policy.verified, now);
	const canWait = policy.mode === "noEncap" || policy.tunnel !== undefined;
	if (isUnverified(state)) return mayGo || !canWait || use === "direct" ? "direct" : "tunnel";
	if (policy.mode === "noEncap") return "direct";
	if (
		direct.full > 0 &&
		mayGo &&
		isProven(direct) &&
		isWorthwhile(direct, tunnel, use === "direct")
	)
		return "direct";
	if (tunnel.phase === "failed") return "down";
	// Only an answer ends `down`.
	return use === "down" && !isProven(tunnel) ? "down" : "tunnel";
}

/**
 * A narrow direct path is used if it carries more than the tunnel, as far as the tunnel's size has been
 * tested since. Until then nothing changes.
 */
function isWorthwhile(direct: PathState, tunnel: PathState, taken: boolean): boolean {
	if (direct.size === 0) return false;
	if (isWhole(direct) || tunnel.full === 0) return true;
	// A silent tunnel carries nothing.
	if (tunnel.phase === "failed" || tunnel.misses >= SILENT)
		return taken || direct.phase === "proven";
	const known = tunnel.search === undefined && tunnel.sizeAt >= direct.searchedAt;
	return known ? direct.size > tunnel.size : taken;
}
