/** The layouts of maps in the kernel, from their type information. */
import type { BpfMap } from "#native";
import { type Btf, parseBtf } from "../../tables/btf.js";
import { type Layout, layoutOf } from "../../tables/layout.js";

export interface MapLayout {
	key: Layout;
	value: Layout;
}

/** Reads type information once, however many maps have it: those of one object share it. */
export class MapLayouts {
	/** By BTF id; undefined: it cannot be read. */
	readonly #known = new Map<number, Btf | undefined>();
	/** Agents that made maps from the same object have loaded the same under another id. */
	#last: { raw: Buffer; btf: Btf | undefined } | undefined;

	/** Undefined: the map has no type information, or types that no table may hold. */
	of(map: BpfMap): MapLayout | undefined {
		const { btfId, btfKeyTypeId, btfValueTypeId } = map.info;
		if (btfKeyTypeId === 0 || btfValueTypeId === 0) return undefined;
		if (!this.#known.has(btfId)) this.#known.set(btfId, this.#read(map));
		const btf = this.#known.get(btfId);
		if (btf === undefined) return undefined;
		try {
			return { key: layoutOf(btf, btfKeyTypeId), value: layoutOf(btf, btfValueTypeId) };
		} catch {
			return undefined;
		}
	}

	#read(map: BpfMap): Btf | undefined {
		const raw = map.btf();
		if (raw === undefined) return undefined;
		if (this.#last?.raw.equals(raw)) return this.#last.btf;
		let btf: Btf | undefined;
		try {
			btf = parseBtf(raw);
		} catch {
			// A later kernel may have kinds of types that are not known here.
		}
		this.#last = { raw, btf };
		return btf;
	}
}
