/** The verdict on a peer's paths, from its state. */
import type { PathVerdict } from "../../compile/compile.js";
import { flat } from "../../text/flat.js";
import type { PathState } from "../path/path_state.js";
import { describe } from "../words.js";
import { untunnelledOf } from "./announcement.js";
import type { PeerState } from "./peer_state.js";

/** True if the verdict still matches the path in use; the state of the other path does not matter. */
export function saysTheSame(verdict: PathVerdict, state: PeerState): boolean {
	const { use, direct, tunnel, announcement } = state;
	if (use !== verdict.use || untunnelledOf(announcement) !== verdict.untunnelled) return false;
	const same = (size: number, path: PathState) => (size || path.full) === (path.size || path.full);
	return use === "direct" ? same(verdict.directMtu, direct) : same(verdict.tunnelMtu, tunnel);
}

/** @param node name of the peer */
export function verdictOf(state: PeerState, node: string, now: number): PathVerdict {
	const { use, direct, tunnel, announcement } = state;
	return {
		use,
		untunnelled: untunnelledOf(announcement),
		directMtu: direct.size,
		tunnelMtu: tunnel.size,
		words: flat(describe(state, node, now)),
	};
}
