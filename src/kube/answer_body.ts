/** Reads bodies of answers, in slices of a few milliseconds. A body that stands still has failed. */
import { Turns } from "../loop/turns.js";
import type { Answer } from "./api_client.js";
import type { Clock, Timer } from "./clock.js";
import { type ListHead, ListItems } from "./list_items.js";

/** A list that stands still for this long has failed. */
const LIST_IDLE_MS = 60_000;

export const STANDS_STILL = "the answer stands still";

/**
 * Passes each chunk to `take`, one at a time.
 *
 * @param idleMs longest time without a chunk
 * @throws Error of the connection or of `take`, or with the message STANDS_STILL
 */
export async function readBody(
	{ body, cancel }: Pick<Answer, "body" | "cancel">,
	clock: Clock,
	idleMs: () => number,
	take: (chunk: Buffer) => Promise<void>,
): Promise<void> {
	let timer: Timer | undefined;
	const rest = () => {
		timer?.cancel();
		timer = clock.after(idleMs(), () => cancel(new Error(STANDS_STILL)));
	};
	rest();
	try {
		for await (const chunk of body) {
			await take(chunk);
			rest();
		}
	} finally {
		timer?.cancel();
		cancel();
	}
}

/** Passes the text of each item of a list, or of a page of it, to `take`. Returns the list without its items. */
export async function readList(
	answer: Pick<Answer, "body" | "cancel">,
	clock: Clock,
	take: (text: string) => void,
): Promise<ListHead> {
	const items = new ListItems();
	const turns = new Turns();
	await readBody(
		answer,
		clock,
		() => LIST_IDLE_MS,
		async (chunk) => {
			for (const text of items.take(chunk)) {
				take(text);
				if (turns.due) await turns.pass();
			}
		},
	);
	return items.end();
}
