import { setTimeout as delay } from "node:timers/promises";

/** Waits until a condition holds. @throws Error with the last value. */
export async function until<T>(
	what: string,
	condition: () => T | Promise<T>,
	timeoutMs = 15_000,
): Promise<NonNullable<T>> {
	const end = Date.now() + timeoutMs;
	let last: unknown;
	for (;;) {
		try {
			const value = await condition();
			if (value) return value;
			last = value;
		} catch (error) {
			last = error;
		}
		if (Date.now() > end)
			throw new Error(`Waited ${timeoutMs} ms in vain for: ${what}; last: ${last}`);
		await delay(25);
	}
}
