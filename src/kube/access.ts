/** How to reach the API servers, and with which credentials. */

export interface Access {
	/** At least one; `https:`, or `http:` for a local proxy. A path stands before those of the API. */
	servers: readonly URL[];
	/** The only name that certificates are verified for (tls-server-name). */
	serverName?: string;
	/** PEM; absent: the authorities built into Node.js. */
	ca?: string;
	/** PEM, both or none. */
	certificate?: string;
	key?: string;
	/** Certificates are not verified. */
	insecure?: boolean;
	/** Bearer token. */
	token?: string;
}

/**
 * Reads the access anew, since tokens and authorities are replaced in their files.
 *
 * @throws Error naming the file and what is wrong with it
 */
export type ReadAccess = () => Promise<Access>;

/** No API server can be reached, for now. */
export class UnreachableError extends Error {}

/** The name in the certificate of every API server of a cluster. */
export const SERVICE_NAME = "kubernetes.default.svc";

/**
 * Reads the address of an API server: `https://host:port`.
 *
 * @param what "FAIRWAY_API_SERVER", for the message
 */
export function readServer(text: string, what: string): URL {
	let url: URL | undefined;
	try {
		url = new URL(text.trim());
	} catch {}
	const usable =
		url !== undefined &&
		(url.protocol === "https:" || url.protocol === "http:") &&
		url.hostname !== "" &&
		url.username === "" &&
		url.search === "";
	if (url !== undefined && usable) return url;
	throw new Error(
		`Cannot use ${what}: expected an address such as https://192.0.2.1:6443, got ${JSON.stringify(text)}`,
	);
}

/** Without the brackets that URLs put around IPv6. */
export function hostOf({ hostname }: URL): string {
	return hostname.replace(/^\[(.*)\]$/, "$1");
}
