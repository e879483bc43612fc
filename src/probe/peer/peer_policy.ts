/** Derives the rules for a peer's paths from the configuration. Pure. */
import type { ProbedPeer } from "../../compile/compile.js";
import type { Config } from "../../config/config.js";
import { type Policy, pathKey } from "./peer_state.js";

/** The paths that the mode allows for a peer, which are therefore probed. */
export function policyOf(
	{ family, direct, tunnel, candidate }: ProbedPeer,
	config: Config,
): Policy {
	const mode = config.trafficEncapMode;
	const verified = mode === "hybrid" && config.hybrid.direct === "proven";
	return {
		mode,
		verified,
		family,
		direct: mode === "noEncap" || (mode === "hybrid" && candidate) ? direct : undefined,
		tunnel: mode === "noEncap" ? undefined : tunnel,
	};
}

/** True if paths and rules are the same, so that their state stays valid. */
export function samePolicy(a: Policy, b: Policy): boolean {
	return (
		a.mode === b.mode &&
		a.verified === b.verified &&
		a.family === b.family &&
		(a.direct === b.direct || pathKey(a.direct) === pathKey(b.direct)) &&
		(a.tunnel === b.tunnel || pathKey(a.tunnel) === pathKey(b.tunnel))
	);
}
