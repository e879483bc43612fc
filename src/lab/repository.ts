/** Where things are in a checkout or an installed package. */
import { fileURLToPath } from "node:url";

/** The directory that holds package.json; the same from src/lab and from dist/lab. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** The path of a command that users call. */
export function command(name: "fairway" | "fairway-cni", base = root): string {
	return `${base}/bin/${name}`;
}

export const exampleDirectory = `${root}/examples/two-subnets`;
/** Runs in a namespace on its own, so it is the compiled file also when this one is not. */
export const stationProgram = `${root}/dist/lab/station.js`;
