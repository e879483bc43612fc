/** Live reload of the configuration file. */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { PathWatch, type PathWatchOptions } from "../files/path_watch.js";
import type { Config, ConfigResult } from "./config.js";
import { parseConfigBytes, unreadableConfig } from "./parse.js";

export interface WatchConfigOptions extends PathWatchOptions {
	/** The current configuration; default: the file's present content. */
	current?: Config;
	/** A file that became empty counts after this time: a writer may just have truncated it. */
	emptyMs?: number;
}

export interface ConfigWatch {
	/** Looks at the file without waiting for an event. */
	now(): Promise<void>;
	close(): Promise<void>;
}

/**
 * Calls back when the file's content has changed: with the new configuration, or with its errors (the
 * previous configuration then stays in force).
 */
export function watchConfig(
	path: string,
	onChange: (result: ConfigResult) => void,
	options: WatchConfigOptions = {},
): ConfigWatch {
	const { current, emptyMs = 500, ...watchOptions } = options;
	let last = fingerprint(current === undefined ? readNow(path) : { config: current });
	let lastBytes: Uint8Array | undefined;

	const look = async () => {
		let result: ConfigResult;
		try {
			let bytes = readFileSync(path);
			if (isBlank(bytes) && lastBytes !== undefined && !isBlank(lastBytes)) {
				await delay(emptyMs);
				bytes = readFileSync(path);
			}
			if (lastBytes !== undefined && bytes.equals(lastBytes)) return;
			lastBytes = bytes;
			result = parseConfigBytes(bytes, path);
		} catch (error) {
			lastBytes = undefined;
			result = unreadableConfig(path, error);
		}
		const now = fingerprint(result);
		if (now === last) return;
		last = now;
		onChange(result);
	};

	const watch = new PathWatch([path], look, watchOptions);
	void watch.now();
	return { now: () => watch.now(), close: () => watch.close() };
}

function readNow(path: string): ConfigResult {
	try {
		return parseConfigBytes(readFileSync(path), path);
	} catch (error) {
		return unreadableConfig(path, error);
	}
}

function isBlank(bytes: Uint8Array): boolean {
	return bytes.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
}

function fingerprint(result: ConfigResult): string {
	return JSON.stringify(result);
}
