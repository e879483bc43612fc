/** Finds host sides of veths that belong to no Pod. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { IpRoute } from "../../linux/iproute.js";
import type { Log } from "../../text/log.js";

/**
 * Removes the candidates that no endpoint record under RUN_DIR/endpoints names. If the directory or a record
 * cannot be read, removes none: a working Pod is worth more than order.
 *
 * @param candidates interfaces from before this agent started; one that is being attached now has no record
 * yet.
 */
export async function removeOrphans(
	ip: IpRoute,
	candidates: readonly string[],
	runDir: string,
	log: Log,
): Promise<void> {
	if (candidates.length === 0) return;
	let known: Set<string>;
	try {
		known = recordedInterfaces(join(runDir, "endpoints"));
	} catch (error) {
		const facts = { error: (error as Error).message };
		log.warn(facts, "cannot read endpoint records, keeping all Pod interfaces");
		return;
	}
	const orphans = candidates.filter((name) => !known.has(name));
	for (const name of orphans) log.warn({ interface: name }, "removing orphaned Pod interface");
	const failures = await ip.batch(orphans.map((name) => `link del dev ${name}`));
	for (const { command, message, code } of failures)
		if (code !== "ENODEV") log.warn({ command, message }, "cannot remove Pod interface");
}

function recordedInterfaces(directory: string): Set<string> {
	const names = new Set<string>();
	let files: string[];
	try {
		files = readdirSync(directory);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return names;
		throw error;
	}
	for (const file of files.filter((name) => name.endsWith(".json"))) {
		const record = JSON.parse(readFileSync(join(directory, file), "utf8")) as {
			hostInterface?: unknown;
		};
		if (typeof record.hostInterface === "string") names.add(record.hostInterface);
	}
	return names;
}
