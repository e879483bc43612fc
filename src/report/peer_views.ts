/**
 * The peers in force, by their index in `peers`, with the sums that `fairway status` shows. Each apply changes them all
 * at once; a reader that yields to the event loop in between may see some peers before the change and some after.
 */
import type { PeerView } from "../compile/compile.js";
import type { Replaced } from "../observe/peer_differences.js";
import type { EntryChanges } from "../tables/changes.js";
import { DenseMap } from "../tables/dense_map.js";
import type { PathKind } from "../tables/paths.js";

export class PeerViews {
	readonly #views = new DenseMap<PeerView>();
	readonly #paths = new Map<PathKind, number>();
	#nodes = 0;

	get size(): number {
		return this.#views.size;
	}

	/** Number of peers. */
	get nodes(): number {
		return this.#nodes;
	}

	/** Number of peers with each path, by family of Pod packets. */
	get paths(): ReadonlyMap<PathKind, number> {
		return this.#paths;
	}

	/** By index in peers. */
	get(index: number): PeerView | undefined {
		return this.#views.get(index);
	}

	[Symbol.iterator](): IterableIterator<PeerView> {
		return this.#views.values();
	}

	/** @param whole peers that are not put are removed */
	take({ put, remove }: EntryChanges<number, PeerView>, whole: boolean): Replaced[] {
		const replaced: Replaced[] = [];
		const set = (index: number, now: PeerView | undefined) => {
			const before = this.#views.get(index);
			if (before === now) return;
			replaced.push({ before, now });
			this.#set(index, before, now);
		};
		if (whole) for (const index of this.#views.keys()) if (!put.has(index)) set(index, undefined);
		for (const index of remove) set(index, undefined);
		for (const [index, view] of put) set(index, view);
		return replaced;
	}

	#set(index: number, before: PeerView | undefined, now: PeerView | undefined): void {
		if (now === undefined) this.#views.delete(index);
		else this.#views.set(index, now);
		if (before !== undefined) this.#count(before.path, -1);
		if (now !== undefined) this.#count(now.path, 1);
		// The other family of the same Node.
		if (!this.#views.has(index ^ 1))
			this.#nodes += Number(now !== undefined) - Number(before !== undefined);
	}

	#count(path: PathKind, one: 1 | -1): void {
		const count = (this.#paths.get(path) ?? 0) + one;
		if (count > 0) this.#paths.set(path, count);
		else this.#paths.delete(path);
	}
}
