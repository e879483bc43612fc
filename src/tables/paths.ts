/** The kinds of path to a peer, by the names that the API and `fairway peers` use. */

/** `direct`: to the peer's MAC; `routed`: to this Node's own next hop. */
export type DirectKind = "direct" | "routed";
export type PathKind = DirectKind | "geneve" | "vxlan" | "down";

/** Names one peer and family, in files and as a key: "NODE/FAMILY". */
export function peerKey({ node, family }: { node: string; family: 4 | 6 }): string {
	// In one piece: it is a key that stays.
	return [node, family].join("/");
}
