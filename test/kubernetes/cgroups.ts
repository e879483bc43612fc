/** The Nodes' cgroups, in every hierarchy: one for each Node, with those of its Pods below. */
import { readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { PREFIX } from "./layout.js";

const root = "/sys/fs/cgroup";

/** Those of one Node, or of all. */
function cgroups(node?: string): string[] {
	const isWanted = (name: string): boolean =>
		node === undefined ? name.startsWith(PREFIX) : name === `${PREFIX}${node}`;
	return ["", ...readdirSync(root)]
		.map((name) => join(root, name))
		.flatMap((folder) =>
			entries(folder)
				.filter(isWanted)
				.map((name) => join(folder, name)),
		);
}

function entries(folder: string): string[] {
	try {
		return readdirSync(folder, { withFileTypes: true })
			.filter((entry) => entry.isDirectory())
			.map((entry) => entry.name);
	} catch {
		return [];
	}
}

/** With those below; a folder comes after its own. */
function withBelow(folder: string): string[] {
	return [...entries(folder).flatMap((name) => withBelow(join(folder, name))), folder];
}

/** Processes of all Nodes. */
export function pidsInCgroups(): number[] {
	return cgroups()
		.flatMap(withBelow)
		.flatMap((folder) => {
			try {
				return readFileSync(join(folder, "cgroup.procs"), "utf8").split("\n").filter(Boolean);
			} catch {
				return [];
			}
		})
		.map(Number)
		.filter((pid) => pid > 0 && pid !== process.pid);
}

/** Removes those without processes, of one Node or of all. @returns true if none is left */
export function removeCgroups(node?: string): boolean {
	for (const folder of cgroups(node).flatMap(withBelow))
		try {
			rmdirSync(folder);
		} catch {
			// A process that has just ended may still be counted.
		}
	return cgroups(node).length === 0;
}
