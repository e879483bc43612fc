/**
 * Peers that stay although no Node is known for them: their entries in the kernel are kept, except where another
 * owner claims the key.
 */
import { parsePrefix } from "../tables/prefix.js";
import type { HeldPeers, Tables } from "../tables/tables.js";
import type { Self } from "./self.js";

/** Adds them to the tables of known peers; returns the problems to report. */
export function holdPeers(
	held: HeldPeers,
	self: Self,
	known: Pick<
		Tables,
		"peers" | "peerPaths" | "peerAddresses" | "peerGateways" | "hostRoutes" | "routes"
	>,
): string[] {
	const ids = new Set([...held.peers.keys()].map((index) => index >> 1));
	for (const index of known.peers.keys()) ids.delete(index >> 1);
	const add = <K, V>(from: Map<K, V>, to: Map<K, V>, id: (key: K, value: V) => number) => {
		for (const [key, value] of from)
			if (ids.has(id(key, value)) && !to.has(key)) to.set(key, value);
	};
	add(held.peers, known.peers, (index) => index >> 1);
	add(held.peerPaths, known.peerPaths, (index) => index >> 2);
	add(held.peerGateways, known.peerGateways, (_, id) => id);
	for (const [address, id] of held.peerAddresses)
		if (ids.has(id) && !self.addresses.has(address) && !known.peerAddresses.has(address))
			known.peerAddresses.set(address, id);
	for (const [text, route] of held.routes) {
		if (!ids.has(route.peer) || known.routes.has(text)) continue;
		known.routes.set(text, route);
		const prefix = parsePrefix(text);
		const index = route.peer * 2 + (prefix.family === 6 ? 1 : 0);
		const source = self.gateway(prefix.family);
		const mtu = held.peers.get(index)?.mtu || self.mtu;
		if (source !== "" && !known.hostRoutes.has(text))
			known.hostRoutes.set(text, { prefix: text, mtu, source });
	}
	if (ids.size === 0) return [];
	return [
		`Cannot tell whether ${ids.size} former peers are still Nodes: expected to have read all Nodes since the restart; their entries in the kernel stay`,
	];
}
