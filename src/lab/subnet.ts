/** Addresses with a prefix length, as text: "192.168.1.1/24", "fd00::1/64". Pure. */
import { isIP, isIPv4 } from "node:net";

export type Family = 4 | 6;

export function familyOf(address: string): Family {
	return isIPv4(address.split("/", 1)[0] ?? "") ? 4 : 6;
}

/** "192.168.1.1/24" → "192.168.1.1". */
export function withoutLength(address: string): string {
	return address.split("/", 1)[0] ?? address;
}

/** The network that an address with a prefix length is in: "192.168.1.1/24" → "192.168.1.0/24". */
export function networkOf(address: string): string {
	const { value, length, bits } = parse(address);
	return `${format(mask(value, length, bits), bits)}/${length}`;
}

/**
 * The router's address in a network, with the network's prefix length: the second-to-last address of
 * an IPv4 network (.254 of a /24), ::fe of an IPv6 network.
 */
export function routerAddress(network: string): string {
	const { value, length, bits } = parse(network);
	const start = mask(value, length, bits);
	const host = bits === 32 ? (1n << BigInt(bits - length)) - 2n : 0xfen;
	return `${format(start + host, bits)}/${length}`;
}

interface Parsed {
	value: bigint;
	length: number;
	bits: 32 | 128;
}

function parse(text: string): Parsed {
	const [address = "", lengthText = ""] = text.split("/");
	const version = isIP(address);
	const bits = version === 4 ? 32 : 128;
	const length = Number(lengthText);
	if (version === 0 || !/^\d+$/.test(lengthText) || length > bits)
		throw new Error(`Cannot read address: expected ADDRESS/PREFIX-LENGTH, got "${text}"`);
	return { value: version === 4 ? parse4(address) : parse6(address), length, bits };
}

function mask(value: bigint, length: number, bits: number): bigint {
	const host = BigInt(bits - length);
	return (value >> host) << host;
}

function parse4(address: string): bigint {
	return address.split(".").reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

function parse6(address: string): bigint {
	const [head = "", tail] = address.split("::");
	const words = (text: string): string[] => (text === "" ? [] : text.split(":"));
	const left = words(head);
	const right = words(tail ?? "");
	const middle = Array<string>(8 - left.length - right.length).fill("0");
	return [...left, ...middle, ...right].reduce((sum, w) => sum * 65536n + BigInt(`0x${w}`), 0n);
}

function format(value: bigint, bits: 32 | 128): string {
	if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join(".");
	const words = Array.from({ length: 8 }, (_, i) => (value >> BigInt(112 - 16 * i)) & 0xffffn);
	// The URL parser formats IPv6 addresses according to RFC 5952.
	return new URL(`http://[${words.map((w) => w.toString(16)).join(":")}]`).hostname.slice(1, -1);
}
