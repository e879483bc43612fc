/** Describes the state of a peer's paths in a sentence. Pure. */

import { isProven, lossOf, type PathState, recentlyAnswered } from "./path/path_state.js";
import { mayGoUntunnelled } from "./peer/announcement.js";
import type { PeerState } from "./peer/peer_state.js";

/** @param name name of the peer's Node */
export function describe(state: PeerState, name: string, now: number): string {
	const clause = clauseOf(state, name, now);
	return clause.endsWith("?") ? clause : `${clause}.`;
}

function clauseOf(state: PeerState, name: string, now: number): string {
	const { policy, direct, tunnel, use, announcement } = state;
	const directName = policy.direct?.path ?? "direct";
	const tunnelName = policy.tunnel?.path ?? "tunnel";
	switch (use) {
		case "down": {
			const since = Math.max(direct.full > 0 ? direct.answeredAt : 0, tunnel.answeredAt);
			const paths = direct.full > 0 ? `neither the direct path nor ${tunnelName}` : tunnelName;
			const verb = direct.full > 0 ? "has been answered" : "has not been answered";
			return `down: ${paths} ${verb} for ${seconds(now - since)}`;
		}
		case "direct":
			if (!isProven(direct) && direct.phase !== "proving") {
				const taken =
					policy.mode === "noEncap"
						? "noEncap has nothing to fall back to"
						: "hybrid.direct subnet needs no proof";
				return `${directName}: ${unproven(direct, name)}, and ${taken}`;
			}
			return `${directName}: ${proofOf(direct)}`;
		case "tunnel":
			if (policy.direct !== undefined && !mayGoUntunnelled(announcement, policy.verified, now))
				if (!policy.verified || isProven(direct))
					return `${tunnelName}: ${name} has not announced yet that it accepts untunnelled Pod packets`;
			if (policy.verified && policy.direct !== undefined)
				return `${tunnelName}: ${whyNotDirect(state, name, now)}`;
			if (isProven(tunnel) || tunnel.phase === "proving")
				return `${tunnelName}: ${proofOf(tunnel)}`;
			return `${tunnelName}: ${unproven(tunnel, name)}`;
	}
}

/** "12 of 12 probes answered, 1500 bytes, 0.21 ms" */
export function proofOf(path: PathState): string {
	const { size, full, roundTrip } = path;
	const { answered, asked } = recentlyAnswered(path);
	const bytes =
		size === 0
			? "the size is being measured"
			: size < full
				? `${size} bytes of ${full} get through`
				: `${size} bytes`;
	return `${answered} of ${asked} probes answered, ${bytes}, ${milliseconds(roundTrip)}`;
}

function unproven(path: PathState, name: string): string {
	if (!path.everAnswered) return `${name} has answered no probe yet`;
	if (path.cause === "size") return "no packet of 1280 bytes gets through";
	const { answered, asked } = recentlyAnswered(path);
	return `${answered} of ${asked} probes answered`;
}

const TOO_SMALL =
	"the direct path carries no packet of 1280 bytes, only smaller ones; is its MTU too small somewhere?";

function whyNotDirect(state: PeerState, name: string, now: number): string {
	const { direct, tunnel } = state;
	if (!direct.everAnswered && !tunnel.everAnswered)
		return `${name} has answered no probe yet, so the direct path is not proven`;
	if (isProven(direct))
		return `the direct path carries packets of ${direct.size} bytes only, the tunnel of ${tunnel.size || tunnel.full}`;
	if (direct.phase === "proving") {
		if (direct.cause === "size") return TOO_SMALL;
		const left = state.hold - (now - direct.phaseAt);
		if (state.hold === 0 || left <= 0) return "the direct path is being proven";
		const hold = seconds(state.hold);
		return direct.cause === "loss"
			? `the direct path lost ${percent(direct.causeLoss)} of probes; it is used again after ${hold} without loss`
			: `the direct path answers again; it is used after ${hold} without failure`;
	}
	switch (direct.cause) {
		case "loss":
			return `the direct path loses ${percent(direct.causeLoss)} of probes, the tunnel ${percent(lossOf(tunnel) ?? 0)}`;
		case "size":
			return TOO_SMALL;
		default:
			return silence(state, name);
	}
}

/** The tunnel answers, so peer and link work; the difference is the addresses in the outer header. */
function silence({ policy, there, back }: PeerState, name: string): string {
	if (there.asked === 0 || (there.answered === 0 && there.asked < 3 && back.answered === 0))
		return "the direct path does not answer";
	if (policy.direct?.path === "routed") {
		if (there.answered > 0)
			return `direct packets from ${name}'s Pods do not arrive; does the network there route our pod CIDRs?`;
		if (back.answered > 0)
			return `direct packets do not reach ${name}; does the network route its pod CIDRs, and accept packets from ours?`;
		return "the direct path is not routed; do the routers know the pod CIDRs of both Nodes?";
	}
	if (there.answered > 0 && back.answered > 0)
		return "the direct path works in either direction alone, but not in both";
	if (there.answered > 0)
		return `direct path drops ${name}'s source address; is the source/destination check on there?`;
	if (back.answered > 0)
		return "direct path drops our source address; is the source/destination check on?";
	return `direct path drops our source address, and ${name}'s; is the source/destination check on?`;
}

function percent(share: number): string {
	return `${Math.round(share * 100)} %`;
}

function milliseconds(ms: number): string {
	return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`;
}

function seconds(ms: number): string {
	const s = ms / 1000;
	return s < 10 ? `${s.toFixed(1).replace(/\.0$/, "")} s` : `${Math.round(s)} s`;
}
