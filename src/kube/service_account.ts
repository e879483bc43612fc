/** Access from inside a Pod: the projected service account, and the address from the environment. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Access, type ReadAccess, readServer } from "./access.js";

const DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface ServiceAccountOptions {
	env?: NodeJS.ProcessEnv;
	/** Default: where kubelet projects it. */
	directory?: string;
}

/**
 * Undefined: the environment names no API server, so this is not a Pod. Missing files fail each reading, not this
 * call.
 *
 * @throws Error for addresses that cannot be used
 */
export function serviceAccount(options: ServiceAccountOptions = {}): ReadAccess | undefined {
	const { env = process.env, directory = DIRECTORY } = options;
	const servers = serversOf(env);
	if (servers.length === 0) return undefined;
	return async (): Promise<Access> => {
		const [token, ca] = await Promise.all([
			read(join(directory, "token"), "the service account's token"),
			read(join(directory, "ca.crt"), "the service account's certificate authority"),
		]);
		return { servers, token: token.trim(), ca };
	};
}

/** `FAIRWAY_API_SERVER` comes first: the Service's address may need a proxy that does not run yet. */
function serversOf(env: NodeJS.ProcessEnv): URL[] {
	const named = env.FAIRWAY_API_SERVER ?? "";
	const texts = named.split(",").filter((text) => text.trim() !== "");
	if (texts.length > 0) return texts.map((text) => readServer(text, "FAIRWAY_API_SERVER"));
	const host = env.KUBERNETES_SERVICE_HOST ?? "";
	if (host === "") return [];
	const port = env.KUBERNETES_SERVICE_PORT ?? "443";
	const text = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
	return [readServer(text, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")];
}

async function read(path: string, what: string): Promise<string> {
	try {
		return await readFile(path, "utf8");
	} catch (error) {
		throw new Error(`Cannot read ${what}: ${(error as Error).message}`);
	}
}
