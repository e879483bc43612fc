/** fairway-cni as a container runtime executes it: variables, standard input, output, status. */
import { execFileSync, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

export const plugin = `${root}bin/fairway-cni`;

/** The same with AddressSanitizer and UBSan; gives up after 500 ms and has room for a few notes only. */
export function sanitizedPlugin(): string {
	execFileSync("make", ["--silent", "-C", `${root}cni`, "sanitized"]);
	return `${root}build/cni/fairway-cni`;
}

export interface PluginRun {
	/** Exit status; the signal's name if one ended it. */
	status: number | string;
	stdout: string;
	stderr: string;
	/** The output as JSON, undefined if there is none. @throws SyntaxError */
	body: unknown;
}

export interface PluginOptions {
	/** Default: the plugin of the build. */
	file?: string;
	/** Leaves standard input open. */
	endless?: boolean;
}

/** Its environment is these variables and nothing else. */
export function runPlugin(
	variables: Record<string, string | undefined>,
	input: string | Uint8Array,
	options: PluginOptions = {},
): Promise<PluginRun> {
	return new Promise((resolve, reject) => {
		const child = spawn(options.file ?? plugin, [], { env: { ...variables } });
		let stdout = "";
		let stderr = "";
		child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
		child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
		child.on("error", reject);
		child.on("close", (status, signal) => {
			child.stdin.destroy();
			resolve({
				...{ status: status ?? signal ?? "", stdout, stderr },
				get body() {
					return stdout === "" ? undefined : JSON.parse(stdout);
				},
			});
		});
		// It may end before it has read all.
		child.stdin.on("error", () => {});
		child.stdin.write(input);
		if (options.endless !== true) child.stdin.end();
	});
}
