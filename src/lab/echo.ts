import type { Lab } from "./lab.js";

/** An answer that comes later than the first may take this long. */
const LATE_SECONDS = 5;

/**
 * The command that sends `count` echo requests at once and ends with the last answer.
 *
 * Once one has been answered, ping waits for the others for its interval or two round trips only: 10 ms with
 * `-i 0.01`, less than another process may keep the CPU. The interval does not delay requests that are sent at once.
 */
export function echoCommand(address: string, count: number, ...options: string[]): string[] {
	const atOnce = ["-c", `${count}`, "-l", `${count}`, "-i", `${LATE_SECONDS}`];
	return ["ping", "-n", ...atOnce, "-W", "1", ...options, address];
}

/** The mean round trip of the answered requests in milliseconds, and how many had no answer. */
export async function echo(
	lab: Lab,
	from: string,
	address: string,
	count: number,
	...options: string[]
): Promise<{ roundTrip: number | undefined; lost: number }> {
	const { stdout } = await lab.run(from, echoCommand(address, count, "-q", ...options), {
		mayFail: true,
	});
	const received = Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
	const mean = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1];
	return { roundTrip: mean === undefined ? undefined : Number(mean), lost: count - received };
}
