/**
 * The owner of each key that several may claim: the claimant with the lowest rank, then the first name. So the owner
 * depends only on the present claimants, not on the order in which they came.
 */

/** Compared by identity. */
export interface Claimant {
	readonly rank: number;
	readonly name: string;
}

export class Owners<C extends Claimant> {
	readonly #owners = new Map<string, C>();
	/** The other claimants, which follow when the owner goes. */
	readonly #others = new Map<string, C[]>();
	#touched = new Set<string>();

	get size(): number {
		return this.#owners.size;
	}

	get(key: string): C | undefined {
		return this.#owners.get(key);
	}

	/** A claimant claims a key only once. Returns true if the key had no owner. */
	claim(key: string, claimant: C): boolean {
		this.#touched.add(key);
		const owner = this.#owners.get(key);
		if (owner === undefined || isBefore(claimant, owner)) this.#owners.set(key, claimant);
		if (owner === undefined) return true;
		const others = this.#others.get(key) ?? [];
		others.push(isBefore(claimant, owner) ? owner : claimant);
		this.#others.set(key, others);
		return false;
	}

	/** Returns true if the key has no owner any more. */
	release(key: string, claimant: C): boolean {
		this.#touched.add(key);
		const others = this.#others.get(key);
		if (others === undefined) return this.#owners.get(key) === claimant && this.#owners.delete(key);
		if (this.#owners.get(key) === claimant) {
			const next = others.reduce((first, other) => (isBefore(other, first) ? other : first));
			this.#owners.set(key, next);
			others.splice(others.indexOf(next), 1);
		} else if (others.includes(claimant)) others.splice(others.indexOf(claimant), 1);
		if (others.length === 0) this.#others.delete(key);
		return false;
	}

	/** Something else about the key has changed. */
	touch(key: string): void {
		this.#touched.add(key);
	}

	/** The keys that were claimed or released since the last call. */
	takeTouched(): ReadonlySet<string> {
		const touched = this.#touched;
		this.#touched = new Set();
		return touched;
	}
}

function isBefore(a: Claimant, b: Claimant): boolean {
	return a.rank < b.rank || (a.rank === b.rank && a.name < b.name);
}
