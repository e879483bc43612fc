import { readFileSync } from "node:fs";

/** Of this build, as package.json says. */
export function version(): string {
	// From src/agent and from dist/agent it is the same way up.
	const file = new URL("../../package.json", import.meta.url);
	return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
