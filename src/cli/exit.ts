/** Exit statuses and their errors. */

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
/** Wrong usage or configuration. */
export const EXIT_USAGE = 2;

/** The command was called in a way that cannot be meant, or its configuration cannot be used. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}
