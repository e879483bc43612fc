// The direction of imports in src: each folder may import from the folders that its row names, and from
// nothing else in src. The rows stand in order, so no folder imports from a later one.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { Failure, filesUnder, top } from "./step.mjs";

/** Loaded when it is needed: this file is imported before there is a node_modules. */
const loadTypeScript = () => createRequire(import.meta.url)("typescript");

/** Folder → the folders that it may import from. */
const allowed = {
	text: [],
	loop: [],
	tables: [],
	files: [],
	columns: ["tables"],
	linux: ["text", "loop", "tables"],
	forwarder: ["tables"],
	config: ["tables", "files"],
	cluster: ["loop", "tables", "files", "columns"],
	kube: ["loop", "tables", "files", "cluster"],
	policy: ["loop", "tables", "files", "forwarder", "columns", "cluster"],
	compile: ["text", "loop", "tables", "linux", "config", "cluster"],
	reconcile: ["text", "loop", "tables", "linux", "forwarder", "policy", "columns"],
	slowpath: ["text", "tables", "forwarder"],
	probe: ["text", "loop", "tables", "columns", "config", "compile", "reconcile"],
	api: ["tables", "linux", "config", "probe"],
	cni: ["text", "tables", "files", "linux", "api"],
	observe: ["text", "loop", "tables", "compile", "api", "policy"],
	report: [
		"text",
		"loop",
		"tables",
		"linux",
		"forwarder",
		"config",
		"cluster",
		"policy",
		"compile",
		"reconcile",
		"slowpath",
		"probe",
		"api",
		"cni",
		"observe",
	],
	http: ["tables", "config", "api"],
	install: ["linux"],
	lab: ["text", "cluster", "api"],
	agent: "every folder above",
	cli: [
		"text",
		"files",
		"linux",
		"config",
		"kube",
		"policy",
		"probe",
		"reconcile",
		"api",
		"cni",
		"install",
		"lab",
		"agent",
	],
};

const folders = Object.keys(allowed);

/** "reconcile" for src/reconcile/maps/table.ts; "" for a file that lies in src itself. */
function folderOf(path) {
	const parts = relative("src", path).split("/");
	return parts.length > 1 ? parts[0] : "";
}

function mayImport(from, to) {
	const list = allowed[from];
	if (Array.isArray(list)) return list.includes(to);
	return folders.indexOf(to) < folders.indexOf(from);
}

/** One line for each import that goes against the table. */
export function wrongImports() {
	const { preProcessFile } = loadTypeScript();
	const wrong = [];
	for (const file of filesUnder("src", /\.ts$/)) {
		const from = folderOf(file);
		if (!folders.includes(from)) {
			wrong.push(`${file}: the folder "${from}" has no row in scripts/imports.mjs`);
			continue;
		}
		const { importedFiles } = preProcessFile(readFileSync(join(top, file), "utf8"), true, true);
		for (const { fileName } of importedFiles) {
			if (!fileName.startsWith(".")) continue;
			const target = join(dirname(file), fileName).replace(/\.js$/, ".ts");
			if (!target.startsWith("src/") || !existsSync(join(top, target))) continue;
			const to = folderOf(target);
			if (to !== from && !mayImport(from, to))
				wrong.push(`${file}: ${from} may not import from ${to} (${fileName})`);
		}
	}
	return wrong;
}

export function checkImports() {
	for (const [folder, list] of Object.entries(allowed))
		for (const other of Array.isArray(list) ? list : [])
			if (folders.indexOf(other) >= folders.indexOf(folder))
				throw new Failure(`scripts/imports.mjs: ${folder} stands above ${other}`);
	const wrong = wrongImports();
	if (wrong.length > 0) throw new Failure(`Imports in the wrong direction:\n${wrong.join("\n")}`);
}
