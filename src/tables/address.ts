/**
 * Addresses as text and as the 16 bytes in tables: network order, IPv4 as ::ffff:a.b.c.d (RFC 4291,
 * 2.5.5.2). Text that is formatted here is canonical: dotted IPv4, RFC 5952 IPv6.
 */
import { isIPv4, isIPv6 } from "node:net";

export const ADDRESS_SIZE = 16;
export const MAC_SIZE = 6;

/** Where the IPv4 address starts in the 16 bytes. */
const MAPPED = 12;

/**
 * The 16 bytes of an address. Undefined for anything else: leading zeros, zone ids, white space, and
 * IPv4-mapped IPv6 text, which no packet carries and which would be a second name for an IPv4 address.
 */
export function parseAddress(text: string): Buffer | undefined {
	const bytes = Buffer.alloc(ADDRESS_SIZE);
	return writeAddressText(bytes, 0, text) ? bytes : undefined;
}

/** Canonical text of the 16 bytes at `offset`. */
export function formatAddress(bytes: Uint8Array, offset = 0): string {
	if (bytes.length < offset + ADDRESS_SIZE)
		throw new Error(
			`Cannot format address: expected ${ADDRESS_SIZE} bytes, got ${bytes.length - offset}`,
		);
	if (isMapped(bytes, offset)) {
		const at = offset + MAPPED;
		return [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]].join(".");
	}
	const group = (i: number): number => (bytes[offset + 2 * i]! << 8) | bytes[offset + 2 * i + 1]!;
	// RFC 5952, 4.2: the longest run of two or more zero groups; of equal runs, the first.
	let start = 8;
	let longest = 1;
	for (let i = 0; i < 8; i++) {
		let end = i;
		while (end < 8 && group(end) === 0) end++;
		if (end - i > longest) {
			start = i;
			longest = end - i;
		}
		i = Math.max(i, end - 1);
	}
	let text = "";
	for (let i = 0; i < 8; i++) {
		if (i === start) {
			text += "::";
			i += longest - 1;
		} else {
			if (i > 0 && i !== start + longest) text += ":";
			text += group(i).toString(16);
		}
	}
	return text;
}

/** The canonical text of an address. Undefined where parseAddress returns undefined. */
export function canonicalAddress(text: string): string | undefined {
	const bytes = parseAddress(text);
	return bytes && formatAddress(bytes);
}

/** The family of text that is known to be an address or a prefix. */
export function familyOf(text: string): 4 | 6 {
	return text.includes(":") ? 6 : 4;
}

/** True if the 16 bytes represent an IPv4 address. */
export function isMapped(bytes: Uint8Array, offset = 0): boolean {
	for (let i = 0; i < 10; i++) if (bytes[offset + i] !== 0) return false;
	return bytes[offset + 10] === 0xff && bytes[offset + 11] === 0xff;
}

/** The address as a number of 32 bits (IPv4) or 128 bits (IPv6). */
export function addressToNumber(bytes: Uint8Array): bigint {
	const digits = Buffer.from(isMapped(bytes) ? bytes.subarray(MAPPED) : bytes).toString("hex");
	return BigInt(`0x${digits}`);
}

/** The 16 bytes of such a number. Throws if it does not fit the family. */
export function addressFromNumber(number: bigint, family: 4 | 6): Buffer {
	const bits = family === 4 ? 32 : 128;
	if (number < 0n || number >> BigInt(bits) !== 0n)
		throw new Error(`Cannot make an IPv${family} address: expected ${bits} bits, got ${number}`);
	const bytes = Buffer.from(number.toString(16).padStart(2 * ADDRESS_SIZE, "0"), "hex");
	if (family === 4) bytes.writeUInt16BE(0xffff, 10);
	return bytes;
}

/** Writes an address; "" means none and is sixteen zero bytes. Throws if the text is not an address. */
export function writeAddress(buffer: Buffer, offset: number, text: string): void {
	if (text === "") buffer.fill(0, offset, offset + ADDRESS_SIZE);
	else if (!writeAddressText(buffer, offset, text))
		throw new Error(`Cannot encode address: expected IPv4 or IPv6, got ${JSON.stringify(text)}`);
}

/** Reads what writeAddress wrote. */
export function readAddress(buffer: Buffer, offset: number): string {
	for (let i = 0; i < ADDRESS_SIZE; i++)
		if (buffer[offset + i] !== 0) return formatAddress(buffer, offset);
	return "";
}

/** Writes "aa:bb:cc:dd:ee:ff". Throws for anything else. */
export function writeMac(buffer: Buffer, offset: number, text: string): void {
	if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text))
		throw new Error(`Cannot encode MAC: expected aa:bb:cc:dd:ee:ff, got ${JSON.stringify(text)}`);
	buffer.write(text.replaceAll(":", ""), offset, MAC_SIZE, "hex");
}

export function readMac(buffer: Buffer, offset: number): string {
	return Array.from(buffer.subarray(offset, offset + MAC_SIZE), (byte) =>
		byte.toString(16).padStart(2, "0"),
	).join(":");
}

/** Returns false, and leaves the bytes undefined, if the text is not an address. */
function writeAddressText(bytes: Buffer, offset: number, text: string): boolean {
	if (isIPv4(text)) {
		bytes.fill(0, offset, offset + 10);
		bytes.writeUInt16BE(0xffff, offset + 10);
		writeDotted(bytes, offset + MAPPED, text, 0);
		return true;
	}
	if (!isIPv6(text) || text.includes("%")) return false;
	bytes.fill(0, offset, offset + ADDRESS_SIZE);
	const gap = text.indexOf("::");
	if (gap < 0) writeGroups(bytes, offset, text, 0, text.length);
	else {
		writeGroups(bytes, offset, text, 0, gap);
		const width = groupsWidth(text, gap + 2);
		writeGroups(bytes, offset + ADDRESS_SIZE - width, text, gap + 2, text.length);
	}
	return !isMapped(bytes, offset);
}

const DOT = 0x2e;
const COLON = 0x3a;

/** The number of bytes that the groups from `from` to the end take. */
function groupsWidth(text: string, from: number): number {
	if (from === text.length) return 0;
	let width = 2;
	for (let i = from; i < text.length; i++) if (text.charCodeAt(i) === COLON) width += 2;
	// Dotted IPv4 at the end counts as two groups.
	return text.includes(".", from) ? width + 2 : width;
}

/** The text must be valid. */
function writeGroups(bytes: Buffer, offset: number, text: string, from: number, to: number): void {
	for (let start = from; start < to; ) {
		let group = 0;
		let end = start;
		for (; end < to && text.charCodeAt(end) !== COLON; end++) {
			const code = text.charCodeAt(end);
			if (code === DOT) {
				writeDotted(bytes, offset, text, start);
				return;
			}
			// "0" to "9" are 0x30 to 0x39; the low bits of a letter are 1 to 6 in either case.
			group = (group << 4) | (code < COLON ? code & 15 : (code & 15) + 9);
		}
		bytes[offset++] = group >> 8;
		bytes[offset++] = group & 0xff;
		start = end + 1;
	}
}

/** The text must be valid to its end. */
function writeDotted(bytes: Buffer, offset: number, text: string, from: number): void {
	let part = 0;
	for (let i = from; i < text.length; i++) {
		const code = text.charCodeAt(i);
		if (code === DOT) {
			bytes[offset++] = part;
			part = 0;
		} else part = part * 10 + (code & 15);
	}
	bytes[offset] = part;
}

/** The bytes as on the wire, then two zero bytes, read as one word: as `struct next_hop` has them. */
export function macWord(mac: string): bigint {
	const bytes = Buffer.alloc(8);
	writeMac(bytes, 0, mac);
	return bytes.readBigUInt64LE();
}

/** The MAC of such a word. */
export function macText(word: bigint): string {
	const bytes = Buffer.alloc(8);
	bytes.writeBigUInt64LE(word);
	return readMac(bytes, 0);
}
