/**
 * The changes of a new configuration, for the log. Every key is applied live; `defaultMTU` also changes the
 * interfaces of running Pods.
 */
import type { Config } from "./config.js";

export interface ConfigChange {
	/** "snat.portRange" */
	key: string;
	/** As JSON text. */
	from: string;
	to: string;
}

/** The changed keys, in the order of Config. */
export function changedKeys(from: Config, to: Config): ConfigChange[] {
	return compare(from, to, "");
}

function compare(from: unknown, to: unknown, at: string): ConfigChange[] {
	if (isSection(from) && isSection(to) && !isRange(to))
		return Object.keys(to).flatMap((key) =>
			compare(from[key], to[key], at === "" ? key : `${at}.${key}`),
		);
	const [before, after] = [show(from), show(to)];
	return before === after ? [] : [{ key: at, from: before, to: after }];
}

function isSection(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
	if (isSection(value) && isRange(value)) return `"${value.first}-${value.last}"`;
	return JSON.stringify(value);
}

/** A range of ports. */
function isRange(value: Record<string, unknown>): boolean {
	return "first" in value && "last" in value;
}
