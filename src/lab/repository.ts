/** Paths in a checkout or an installed package. */
import { fileURLToPath } from "node:url";

/** The directory that holds package.json, from both src/lab and dist/lab. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** The path of a user command. */
export function command(name: "fairway" | "fairway-cni", base = root): string {
	return `${base}/bin/${name}`;
}

export const exampleDirectory = `${root}/examples/two-subnets`;
/** Always the compiled file, since it runs as a process of its own in a namespace. */
export const stationProgram = `${root}/dist/lab/station.js`;
