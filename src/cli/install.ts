/** `fairway install` */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { mountBpffs } from "../install/bpffs.js";
import { installPlugins } from "../install/plugins.js";
import { EXIT_DONE, UsageError } from "./exit.js";

/** Beside dist/ in the image; the path works from src/cli and from dist/cli. */
const PLUGINS = fileURLToPath(new URL("../../cni", import.meta.url));

export async function installCommand(options: {
	cniBinDir?: string;
	bpffs?: string;
	/** Where the plugins are; default: where the image has them. */
	plugins?: string;
}): Promise<number> {
	const { cniBinDir, bpffs, plugins = PLUGINS } = options;
	if (cniBinDir === undefined && bpffs === undefined)
		throw new UsageError("Cannot install: expected --cni-bin-dir or --bpffs, got neither");
	if (cniBinDir !== undefined) {
		const directory = resolve(cniBinDir);
		const { installed, kept } = installPlugins(plugins, directory);
		const names = (list: readonly string[]) => (list.length === 0 ? "none" : list.join(", "));
		process.stdout.write(
			`CNI plugins in ${directory}: installed ${names(installed)}; kept ${names(kept)}\n`,
		);
	}
	if (bpffs !== undefined) {
		const directory = resolve(bpffs);
		const mounted = await mountBpffs(directory);
		process.stdout.write(
			mounted
				? `Mounted the BPF file system at ${directory}\n`
				: `The BPF file system is mounted at ${directory}\n`,
		);
	}
	return EXIT_DONE;
}
