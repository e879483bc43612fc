/**
 * The end of an agent, in time: an operation that hangs (a process, a lock of the kernel) must not keep it alive
 * longer than its supervisor waits. Packets are forwarded either way.
 */

/** systemd and a kubelet wait for 30 s and more before they kill. */
const DEADLINE_MS = 15_000;

export interface StopLog {
	warn(facts: object, message: string): void;
	error(facts: object, message: string): void;
}

/**
 * Resolves when `stop` has settled, when the time is over, or with another signal, whichever comes
 * first. True: it was a complete stop.
 *
 * @param signals where SIGTERM and SIGINT come from: the process
 */
export async function stopInTime(
	stop: () => Promise<void>,
	log: StopLog,
	{
		signals = process,
		deadlineMs = DEADLINE_MS,
	}: { signals?: NodeJS.EventEmitter; deadlineMs?: number } = {},
): Promise<boolean> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<false>((resolve) => {
		timer = setTimeout(() => {
			log.warn({ deadlineMs }, "stopping takes too long; exiting");
			resolve(false);
		}, deadlineMs);
	});
	const again = new Promise<false>((resolve) => {
		for (const signal of ["SIGTERM", "SIGINT"])
			signals.once(signal, () => {
				log.warn({ signal }, "second signal; exiting at once");
				resolve(false);
			});
	});
	const done = stop().then(
		() => true,
		(error: unknown) => {
			log.error({ err: error }, "cannot stop cleanly");
			return false;
		},
	);
	const complete = await Promise.race([done, late, again]);
	clearTimeout(timer);
	return complete;
}
