/**
 * Access by a kubeconfig file.
 *
 *  1. the current context names a cluster and a user
 *  2. cluster: server, certificate authority, the name to verify
 *  3. user: client certificate, token or a file with the token
 *
 * Relative paths begin at the file's directory, as everywhere in Kubernetes. Plugins that fetch
 * credentials are refused: an agent has a certificate or a service account.
 */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { firstLine, parseYaml } from "../files/yaml.js";
import { type Access, type ReadAccess, readServer } from "./access.js";

type Mapping = Record<string, unknown>;

/** Returns a function that reads the file, and the files that it names, with each call. */
export function kubeconfig(file: string): ReadAccess {
	let before: { text: string; content: Mapping } | undefined;
	return async () => {
		const text = await readText(file, file);
		if (before?.text !== text) before = { text, content: parse(text, file) };
		return readAccess(before.content, file);
	};
}

function parse(text: string, file: string): Mapping {
	const { documents, faults } = parseYaml(text);
	const [fault] = faults;
	if (fault !== undefined) throw new Error(`Cannot use ${file}: ${fault.message}`);
	const content: unknown = documents[0]?.toJS({ maxAliasCount: 0 });
	if (isMapping(content)) return content;
	throw new Error(`Cannot use ${file}: expected a kubeconfig, got no mapping`);
}

async function readAccess(content: Mapping, file: string): Promise<Access> {
	const fail = (why: string): never => {
		throw new Error(`Cannot use ${file}: ${why}`);
	};
	const named = (list: string, name: string): Mapping => {
		const entries = Array.isArray(content[list]) ? content[list].filter(isMapping) : [];
		const entry = entries.find((one) => one.name === name);
		const value = entry?.[list.slice(0, -1)];
		return isMapping(value) ? value : fail(`expected ${JSON.stringify(name)} in ${list}, got none`);
	};
	const context = named("contexts", currentContext(content) ?? fail(NO_CONTEXT));
	const clusterName = text(context.cluster) ?? fail("expected the context to name a cluster");
	const cluster = named("clusters", clusterName);
	const userName = text(context.user);
	const user = userName === undefined ? {} : named("users", userName);

	const server = text(cluster.server) ?? fail(`expected a server of cluster ${clusterName}`);
	if (text(cluster["proxy-url"]) !== undefined)
		fail("expected a server that is reached without a proxy, got a proxy-url");
	for (const plugin of ["exec", "auth-provider"])
		if (user[plugin] !== undefined && user[plugin] !== null)
			fail(
				`expected a client certificate, a token or a tokenFile of user ${userName}, got the plugin ${JSON.stringify(plugin)}; agents use certificates or service accounts`,
			);

	const directory = dirname(resolve(file));
	const content64 = (data: unknown, what: string): string | undefined => {
		const base64 = text(data);
		if (base64 === undefined) return undefined;
		const decoded = Buffer.from(base64, "base64").toString("utf8");
		return decoded.includes("-----BEGIN") ? decoded : fail(`expected ${what} as base64 of PEM`);
	};
	const pem = async (from: Mapping, key: string): Promise<string | undefined> => {
		const data = content64(from[`${key}-data`], `${key}-data`);
		const path = text(from[key]);
		if (data !== undefined || path === undefined) return data;
		return readText(resolve(directory, path), file);
	};

	const access: Access = { servers: [readServer(server, `the server in ${file}`)] };
	const serverName = text(cluster["tls-server-name"]);
	if (serverName !== undefined) access.serverName = serverName;
	if (cluster["insecure-skip-tls-verify"] === true) access.insecure = true;
	const ca = await pem(cluster, "certificate-authority");
	if (ca !== undefined) access.ca = ca;
	const certificate = await pem(user, "client-certificate");
	const key = await pem(user, "client-key");
	if ((certificate === undefined) !== (key === undefined))
		fail(`expected both client-certificate and client-key of user ${userName}, got one`);
	if (certificate !== undefined && key !== undefined) Object.assign(access, { certificate, key });
	// As in client-go: the token file is newer than a token that was copied from it.
	const tokenFile = text(user.tokenFile);
	const token =
		tokenFile === undefined
			? text(user.token)
			: (await readText(resolve(directory, tokenFile), file)).trim();
	if (token !== undefined) access.token = token;
	return access;
}

const NO_CONTEXT = "expected a current-context";

/** A file with a single context need not name it. */
function currentContext(content: Mapping): string | undefined {
	const named = text(content["current-context"]);
	if (named !== undefined) return named;
	const contexts = Array.isArray(content.contexts) ? content.contexts.filter(isMapping) : [];
	return contexts.length === 1 ? text(contexts[0]?.name) : undefined;
}

async function readText(path: string, file: string): Promise<string> {
	try {
		return await readFile(path, "utf8");
	} catch (error) {
		throw new Error(`Cannot use ${file}: ${firstLine(error)}`);
	}
}

function isMapping(value: unknown): value is Mapping {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Kubernetes treats an empty text as none. */
function text(value: unknown): string | undefined {
	return typeof value === "string" && value !== "" ? value : undefined;
}
