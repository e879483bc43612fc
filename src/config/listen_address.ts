/** Where an HTTP server listens: "ADDRESS:PORT", "[IPv6]:PORT", ":PORT" for every address, "" for nowhere. */
import { isIP } from "node:net";

export interface ListenAddress {
	/** undefined: every address of the Node, of both families. */
	host: string | undefined;
	port: number;
}

/** undefined: it listens nowhere, or `text` is no such address. */
export function listenAddress(text: string): ListenAddress | undefined {
	const [, bracketed, plain = "", digits = ""] =
		/^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
	const port = Number(digits);
	if (port < 1 || port > 65535) return undefined;
	if (bracketed !== undefined) return isIP(bracketed) === 6 ? { host: bracketed, port } : undefined;
	if (plain === "") return { host: undefined, port };
	return isIP(plain) === 4 ? { host: plain, port } : undefined;
}

/** True if two servers cannot listen at both. */
export function clash(a: string, b: string): boolean {
	const [one, other] = [listenAddress(a), listenAddress(b)];
	if (one === undefined || other === undefined || one.port !== other.port) return false;
	const everywhere = ({ host }: ListenAddress) =>
		host === undefined || /^(0\.0\.0\.0|::)$/.test(host);
	return everywhere(one) || everywhere(other) || one.host === other.host;
}
