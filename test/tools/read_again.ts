/** A full look at the tables, as the reconciler takes it. */
import type { TableState } from "../../src/reconcile/maps/table_state.js";

/** Returns how many entries others have changed. @param between runs after each table */
export async function readAgain(
	state: TableState,
	between: () => Promise<unknown> = async () => undefined,
): Promise<number> {
	let differing = 0;
	for (const read of state.readings()) {
		differing += await read();
		await between();
	}
	return differing;
}
