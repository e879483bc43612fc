/**
 * Step 4 of network policy's writes: identities and blocks, then those that go.
 *
 *  - those whose class has not all its verdicts are denied until it has
 *  - one that goes stays while another that overlaps with it is refused, because that is to take its place
 */
import type { Steps } from "../../loop/turns.js";
import { CLASS_OVERFLOW } from "../../policy/policy_tables.js";
import type { IdentityWrites } from "../../policy/policy_writes.js";
import { parseAddress } from "../../tables/address.js";
import { hostPrefix, type Prefix, PrefixTable, parsePrefix } from "../../tables/prefix.js";
import type { AgentTables } from "./agent_tables.js";
import { BATCH, type Entries, type EntryWriter, type Key, plain } from "./entry_writer.js";
import { putIdentities } from "./identities.js";

/** By address or block. */
interface Pending {
	identities: Entries<number, string>;
	blocks: Entries<number, string>;
}

export class AddressWrites {
	readonly #tables: AgentTables;
	readonly #writer: EntryWriter;
	readonly #pending: Pending;
	/** More identities, in order, as columns: of all others nothing is refused. */
	#columns: IdentityWrites[] = [];
	/** Addresses and blocks that are denied because their class is not complete. */
	#denied = new Set<string>();

	/** @param pending what is to be written; what was written is removed from it */
	constructor(tables: AgentTables, writer: EntryWriter, pending: Pending) {
		this.#tables = tables;
		this.#writer = writer;
		this.#pending = pending;
	}

	/** These are to be written, too. */
	take(identities: IdentityWrites): void {
		this.#columns.push(identities);
	}

	/** Another class is pending for this address or block. Other keys are left alone. */
	renew(key: Key): void {
		this.#denied.delete(String(key));
	}

	/**
	 * Returns whether all addresses and blocks have what they should, or are denied.
	 *
	 * @param classes whose addresses are denied
	 */
	*write(classes: ReadonlySet<number>): Steps<boolean> {
		const refused = new PrefixTable<true>();
		let isWhole = true;
		if (classes.size > 0 || this.#pending.identities.size > 0 || this.#columns.length > 1)
			yield* this.#unfoldIdentities();
		const again = yield* this.#putIdentities();
		for (const [address] of again) {
			refused.set(hostPrefixOf(address), true);
			isWhole = false;
		}
		const denied = new Set<string>();
		const tables = [
			[this.#tables.identities, this.#pending.identities, hostPrefixOf],
			[this.#tables.blocks, this.#pending.blocks, parsePrefix],
		] as const;
		for (const [table, entries, prefixOf] of tables) {
			const isDenied = (number: number | undefined) => number !== undefined && classes.has(number);
			const lacking = classes.size > 0 ? [...entries].filter(([, one]) => isDenied(one)) : [];
			const encode = (number: number) => (classes.has(number) ? CLASS_OVERFLOW : number);
			const may = (key: string, number: number | undefined) =>
				number !== undefined && !(isDenied(number) && this.#denied.has(key));
			for (const { key } of yield* this.#writer.put(table, entries, encode, may)) {
				refused.set(prefixOf(key), true);
				isWhole = false;
			}
			for (const [key, number] of lacking) {
				if (!entries.has(key) || this.#denied.has(key)) denied.add(key);
				entries.set(key, number);
			}
		}
		this.#denied = denied;
		for (const [address, number] of again) this.#pending.identities.set(address, number);
		for (const [table, entries, prefixOf] of tables)
			yield* this.#writer.put(table, entries, plain, (key, number) => {
				if (number !== undefined) return false;
				return isWhole || refused.overlapping(prefixOf(key)) === undefined;
			});
		return isWhole;
	}

	/** To be written one by one, with what was refused before. */
	*#unfoldIdentities(): Steps<void> {
		for (const writes of this.#columns)
			for (let i = 0; i < writes.length; i++) {
				const address = writes.address(i);
				this.#pending.identities.set(address, writes.number(i));
				this.#denied.delete(address);
				if (i % BATCH === 0) yield;
			}
		this.#columns = [];
	}

	/** Of columns what comes or changes; what goes is pending then. Returns what was refused. */
	*#putIdentities(): Steps<[address: string, number: number][]> {
		const again: [string, number][] = [];
		for (const writes of this.#columns) {
			const refused = yield* putIdentities(this.#tables.identities, writes);
			for (const { index, ...failure } of refused) {
				this.#writer.refused([failure]);
				again.push([failure.key, writes.number(index)!]);
			}
			this.#writer.wrote(-refused.length);
			for (let i = 0; i < writes.length; i++) {
				if (i % BATCH === 0) yield;
				if (writes.number(i) !== undefined) this.#writer.wrote(1);
				else this.#pending.identities.set(writes.address(i), undefined);
			}
		}
		this.#columns = [];
		return again;
	}

	/** Sentences for `fairway status`. */
	problems(): string[] {
		const denied = this.#denied.size;
		if (denied === 0) return [];
		const [one] = this.#denied;
		const others = denied > 1 ? ` and ${denied - 1} more addresses and blocks` : "";
		return [`The kernel has no verdicts for ${one}${others}: they are denied`];
	}
}

function hostPrefixOf(address: string): Prefix {
	return hostPrefix(parseAddress(address)!);
}
