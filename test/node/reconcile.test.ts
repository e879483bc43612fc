/**
 * The reconciler against this kernel. Each file under reconcile/ runs in network and mount
 * namespaces of its own; reconcile/fixture.ts draws the Node that is in them.
 */
import { fileURLToPath } from "node:url";
import t from "tap";

for (const [file, name] of [
	["apply", "writes what differs, and nothing else"],
	["restart", "adopts what an earlier agent left"],
	["upgrade", "swaps programs and migrates maps"],
	["faults", "goes on when the kernel refuses or things vanish"],
	["gro", "has the kernel merge tunnels where there is no XDP"],
	["policy", "keeps network policy in force over restarts and versions"],
	["live", "reads the live maps and the kernel"],
	["cleanup", "removes every kernel object"],
] as const) {
	const path = fileURLToPath(new URL(`reconcile/${file}.ts`, import.meta.url));
	t.spawn(
		"unshare",
		["--net", "--mount", "--propagation", "private", process.execPath, "--import=tsx", path],
		{ name },
	);
}
