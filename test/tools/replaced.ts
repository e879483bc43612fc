/** What an apply makes of one list of peers after another. */
import type { PeerView } from "../../src/compile/compile.js";
import type { Replaced } from "../../src/observe/peer_differences.js";
import { PeerViews } from "../../src/report/peer_views.js";

/** Each Node of a name has an index of its own. */
export function replaced(before: readonly PeerView[], now: readonly PeerView[]): Replaced[] {
	const names = [...new Set([...before, ...now].map(({ node }) => node))];
	const byIndex = (views: readonly PeerView[]) => ({
		put: new Map(
			views.map((view) => [names.indexOf(view.node) * 2 + (view.family === 6 ? 1 : 0), view]),
		),
		remove: new Set<number>(),
	});
	const views = new PeerViews();
	views.take(byIndex(before), true);
	return views.take(byIndex(now), true);
}
