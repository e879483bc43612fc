/**
 * What a Node's address is to the policies in force. A block with any of a Node's addresses means the Node: its
 * InternalIPs decide where the block's prefix has any, and an except of one of them excepts the Node; else its
 * gateway does.
 */
import { NO_LABELS } from "../cluster/labels.js";
import { matches } from "../cluster/selector.js";
import { familyOf, parseAddress } from "../tables/address.js";
import type { NumberedAtom } from "./atoms.js";
import type { Blocks, Cover } from "./blocks.js";
import type { NodeOwner } from "./owners.js";

/** @param cover of the address itself */
export function nodeAtoms(
	{ object, gateways }: Pick<NodeOwner, "object" | "gateways">,
	address: string,
	cover: Cover,
	blocks: Blocks,
	selectors: Iterable<Extract<NumberedAtom, { kind: "nodes" }>>,
): readonly number[] {
	const same = (one: string) => familyOf(one) === familyOf(address);
	const atoms = new Set<number>();
	const within = new Set<number>();
	const excepted = new Set<number>();
	for (const one of object.internalIPs.filter(same)) {
		const bytes = parseAddress(one)!;
		const held = new Set(blocks.coverAt(bytes).atoms);
		for (const atom of blocks.over(bytes)) {
			within.add(atom);
			if (!held.has(atom)) excepted.add(atom);
		}
	}
	for (const atom of within) if (!excepted.has(atom)) atoms.add(atom);
	for (const one of gateways.filter(same))
		for (const atom of blocks.coverAt(parseAddress(one)!).atoms)
			if (!within.has(atom)) atoms.add(atom);
	if (object.externalIPs?.includes(address)) for (const atom of cover.atoms) atoms.add(atom);
	for (const atom of selectors)
		if (matches(atom.nodes, object.labels ?? NO_LABELS)) atoms.add(atom.id);
	return [...atoms].sort((a, b) => a - b);
}
