/** Classes of addresses in the kernel: two for each Pod of the cluster, so they are read and written as columns. */
import { AddressNumbers } from "../../columns/address_numbers.js";
import type { Steps } from "../../loop/turns.js";
import type { IdentityWrites } from "../../policy/policy_writes.js";
import { ADDRESS_SIZE } from "../../tables/address.js";
import type { EntryFailure, Table } from "./agent_tables.js";

/** Entries of one write: some 2 ms. */
const BATCH = 512;

export async function adoptIdentities(
	table: Pick<Table<string, number>, "adoptPairs">,
): Promise<AddressNumbers> {
	const held = new AddressNumbers();
	for await (const { keys, values } of table.adoptPairs())
		for (let i = 0; i * ADDRESS_SIZE < keys.length; i++)
			held.setAt(keys, i * ADDRESS_SIZE, values.readUInt32LE(4 * i));
	return held;
}

/** All but removals. Returns what the kernel refused. */
export function* putIdentities(
	table: Pick<Table<string, number>, "putPairs">,
	writes: IdentityWrites,
): Steps<(EntryFailure<string> & { index: number })[]> {
	const failures: (EntryFailure<string> & { index: number })[] = [];
	let batch: number[] = [];
	for (let i = 0; i < writes.length; i++) {
		if (writes.number(i) !== undefined) batch.push(i);
		const isLast = i + 1 === writes.length;
		if (batch.length === 0 || (batch.length < BATCH && !isLast)) continue;
		const keys = Buffer.alloc(batch.length * ADDRESS_SIZE);
		const values = Buffer.alloc(batch.length * 4);
		for (const [place, index] of batch.entries()) {
			keys.set(writes.bytes(index), place * ADDRESS_SIZE);
			values.writeUInt32LE(writes.number(index)!, place * 4);
		}
		for (const { index, ...failure } of table.putPairs(keys, values))
			failures.push({ ...failure, index: batch[index]! });
		batch = [];
		yield;
	}
	return failures;
}
