/** The verdict on a peer's paths, from its state. */
import type { PathVerdict } from "../../compile/compile.js";
import { flat } from "../../text/flat.js";
import type { PathState } from "../path/path_state.js";
import { describe } from "../words.js";
import { untunnelledOf } from "./announcement.js";
import type { PeerState } from "./peer_state.js";

/** True if probes decide which path is taken; else only the mode does. */
export function probesDecide({ use, policy }: Pick<PeerState, "use" | "policy">): boolean {
	return use === "down" || policy.direct !== undefined;
}

/** True if the verdict still matches the path in use; the state of the other path does not matter. */
export function saysTheSame(verdict: PathVerdict, state: PeerState): boolean {
	const { use, direct, tunnel, announcement } = state;
	if (use !== verdict.use || untunnelledOf(announcement) !== verdict.untunnelled) return false;
	// Probes did not decide in the mode before, so the words are missing.
	if (probesDecide(state) && verdict.words === "") return false;
	const same = (size: number, path: PathState) => (size || path.full) === (path.size || path.full);
	return use === "direct" ? same(verdict.directMtu, direct) : same(verdict.tunnelMtu, tunnel);
}

/** Verdicts without words: thousands of peers have the same few. */
const shared = new Map<string, PathVerdict>();
const SHARED_MAX = 1024;

/** @param node name of the peer */
export function verdictOf(state: PeerState, node: string, now: number): PathVerdict {
	const { use, direct, tunnel } = state;
	const untunnelled = untunnelledOf(state.announcement);
	const [directMtu, tunnelMtu] = [direct.size, tunnel.size];
	if (probesDecide(state)) {
		const words = flat(describe(state, node, now));
		return { use, untunnelled, directMtu, tunnelMtu, words };
	}
	const key = `${use} ${untunnelled} ${directMtu} ${tunnelMtu}`;
	let verdict = shared.get(key);
	if (verdict === undefined) {
		verdict = { use, untunnelled, directMtu, tunnelMtu, words: "" };
		if (shared.size >= SHARED_MAX) shared.clear();
		shared.set(key, verdict);
	}
	return verdict;
}
