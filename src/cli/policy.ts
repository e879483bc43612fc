/** `fairway policy check`: reads files, asks no agent. */
import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { checkPolicies } from "../policy/check.js";
import { clusterOf, readManifestObjects } from "../policy/manifests.js";
import { EXIT_DONE, EXIT_FAILED } from "./exit.js";
import { json } from "./output.js";

export interface CheckOptions {
	/** A file or a directory with Pods, Namespaces and Nodes that selectors are tried on. */
	manifests?: string;
	output: "text" | "json";
}

/** Status 1: something in the file cannot be used. With `-o json`: an array of findings. */
export async function policyCheckCommand(file: string, options: CheckOptions): Promise<number> {
	const own = await objectsOf(file);
	const others = options.manifests === undefined ? [] : await objectsIn(options.manifests);
	const findings = checkPolicies(own, clusterOf([...others, ...own]));
	const text = findings.map(
		({ policy, where, message, kind }) =>
			`${policy}: ${where === "" ? "" : `${where}: `}${kind === "unusable" ? "cannot be used: " : ""}${message}\n`,
	);
	process.stdout.write(options.output === "json" ? json(findings) : text.join(""));
	if (options.output === "text" && findings.length === 0)
		process.stdout.write(`${file}: nothing to remark\n`);
	return findings.some(({ kind }) => kind === "unusable") ? EXIT_FAILED : EXIT_DONE;
}

const unreadable = (path: string) => (error: Error) => {
	throw new Error(`Cannot read ${path}: ${error.message}`);
};

async function objectsIn(path: string): Promise<unknown[]> {
	if (!(await stat(path).catch(unreadable(path))).isDirectory()) return objectsOf(path);
	const objects: unknown[] = [];
	for (const name of (await readdir(path)).sort())
		if (!name.startsWith(".") && [".yaml", ".yml", ".json"].includes(extname(name)))
			objects.push(...(await objectsOf(join(path, name))));
	return objects;
}

/** @throws Error with the file's name and a position */
async function objectsOf(file: string): Promise<unknown[]> {
	const read = readManifestObjects(await readFile(file, "utf8").catch(unreadable(file)));
	if ("fault" in read) throw new Error(`Cannot read ${file}:${read.fault}`);
	return read.objects;
}
