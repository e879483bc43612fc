/** Exit statuses and their errors. */

export const EXIT_DONE = 0;
/** Also: `check` found that the active mode breaks a path. */
export const EXIT_FAILED = 1;
/** Wrong usage or configuration. */
export const EXIT_USAGE = 2;
/** `status --wait`: the time is over and the agent is not ready. */
export const EXIT_NOT_READY = 3;
/** `check` could not be made, so that nothing is known of the paths; its 1 is a finding. */
export const EXIT_NOT_CHECKED = 4;

/** For `--help`. */
export const EXIT_STATUSES = `Exit status:
  0  done
  1  failed; check: the active mode breaks a path
  2  bad usage or configuration
  3  status --wait: not ready in time
  4  check: could not be made (agent down, for one)`;

/** The command was called in a way that makes no sense, or its configuration cannot be used. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}
