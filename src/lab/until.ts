import { setTimeout as delay } from "node:timers/promises";

const PAUSE_MS = 25;
/** A turn counts for at most this: on a busy machine each turn takes longer, and so does the awaited event. */
const TURN_MAX_MS = 4 * PAUSE_MS;

/**
 * Waits until a condition holds.
 *
 * @param patienceMs on a calm machine; on a busy one, up to several times as long.
 * @throws Error with the last value.
 */
export async function until<T>(
	what: string,
	condition: () => T | Promise<T>,
	patienceMs = 30_000,
): Promise<NonNullable<T>> {
	const start = Date.now();
	let last: unknown;
	for (let waited = 0; ; ) {
		const began = Date.now();
		try {
			const value = await condition();
			if (value) return value;
			last = value;
		} catch (error) {
			last = error;
		}
		if (waited > patienceMs)
			throw new Error(
				`Waited ${Date.now() - start} ms without success for: ${what}; last: ${last}`,
			);
		await delay(PAUSE_MS);
		waited += Math.min(Date.now() - began, TURN_MAX_MS);
	}
}
