/** What the parts of the agent need of a log; pino's Logger has it. */
export interface Log {
	debug(fields: object, message: string): void;
	info(fields: object, message: string): void;
	warn(fields: object, message: string): void;
	error(fields: object, message: string): void;
}

/**
 * The same log with the field `component` in every line. Not pino's `child`, which keeps the level of
 * the moment it was made at.
 */
export function withComponent(log: Log, component: string): Log {
	return {
		debug: (fields, message) => log.debug({ component, ...fields }, message),
		info: (fields, message) => log.info({ component, ...fields }, message),
		warn: (fields, message) => log.warn({ component, ...fields }, message),
		error: (fields, message) => log.error({ component, ...fields }, message),
	};
}
