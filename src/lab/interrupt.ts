/** Ctrl-C and other signals: removes everything that the process has made, then exits. */

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** True from the first signal on: later errors come from the removal. */
let interrupted = false;

export const isInterrupted = (): boolean => interrupted;

/**
 * @param cleanUp called once, with the signal.
 * @param status the exit status; default 128 + the signal's number, as in a shell.
 */
export function onInterrupt(
	cleanUp: (signal: NodeJS.Signals) => Promise<void>,
	status?: () => number,
): void {
	for (const [signal, number] of Object.entries(SIGNALS) as [NodeJS.Signals, number][])
		process.on(signal, async () => {
			if (interrupted) return;
			interrupted = true;
			try {
				await cleanUp(signal);
			} catch (error) {
				process.stderr.write(`${(error as Error).message}\n`);
				process.exit(1);
			}
			process.exit(status?.() ?? 128 + number);
		});
}
