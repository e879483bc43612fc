/** What the agent's tables hold of some peers. */
import { type Peer, type Route, RouteKind } from "../../tables/generated.js";
import type { HeldPeers } from "../../tables/tables.js";

interface Entries {
	peers: ReadonlyMap<number, Peer>;
	peerPaths: ReadonlyMap<number, Peer>;
	peerAddresses: ReadonlyMap<string, number>;
	peerGateways: ReadonlyMap<string, number>;
	routes: ReadonlyMap<string, Route>;
}

export function peerEntries(entries: Entries, ids: ReadonlySet<number>): HeldPeers {
	const { peers, peerPaths, peerAddresses, peerGateways, routes } = entries;
	return {
		peers: only(peers, (index) => ids.has(index >> 1)),
		peerPaths: only(peerPaths, (index) => ids.has(index >> 2)),
		peerAddresses: only(peerAddresses, (_, id) => ids.has(id)),
		peerGateways: only(peerGateways, (_, id) => ids.has(id)),
		routes: only(routes, (_, { kind, peer }) => kind === RouteKind.PEER && ids.has(peer)),
	};
}

function only<K, V>(map: ReadonlyMap<K, V>, wanted: (key: K, value: V) => boolean): Map<K, V> {
	return new Map([...map].filter(([key, value]) => wanted(key, value)));
}
